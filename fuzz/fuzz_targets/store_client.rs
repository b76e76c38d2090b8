//! A xenstored that sends anything at all, to a client with requests, a watch and a transaction.
//!
//! The script is a list of messages: a byte that says what comes, a length, and as many bytes of
//! payload. Most are responses to what the client asked, so that a script gets past the check of
//! the header. Every request must end, and the client must not panic.
#![no_main]

use embedded_io_async::{ErrorType, Read, Write};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use xen_abi::xs_wire::{Header, MessageType};
use xen_exec::{Executor, Turn};
use xen_store::Store;
use zerocopy::{FromBytes, IntoBytes};

/// The daemon's side: the rest of the script, and the requests without a response.
#[derive(Default)]
struct Daemon {
    script: VecDeque<u8>,
    asked: VecDeque<Header>,
    /// Bytes on their way to the client.
    sent: VecDeque<u8>,
    reader: Option<Waker>,
}

impl Daemon {
    /// Puts the script's next message on the way. `None` while it needs a request that has not
    /// come, and at the end of the script.
    fn step(&mut self) -> Option<()> {
        let &act = self.script.front()?;
        let request = match act % 8 {
            0..6 => Some(self.asked.pop_front()?),
            _ => None,
        };
        self.script.pop_front();
        let len = self.script.pop_front().unwrap_or(0) as usize;
        let len = len.min(self.script.len());
        let payload: Vec<u8> = self.script.drain(..len).collect();
        let header = match (act % 8, request) {
            (0..4, Some(request)) => Header { len: len as u32, ..request },
            (_, Some(request)) => Header { kind: MessageType::ERROR, len: len as u32, ..request },
            (6, None) => {
                Header { kind: MessageType::WATCH_EVENT, req_id: 0, tx_id: 0, len: len as u32 }
            }
            _ => {
                self.sent.extend(payload);
                return Some(());
            }
        };
        self.sent.extend(header.as_bytes());
        self.sent.extend(payload);
        Some(())
    }
}

struct FromDaemon(Rc<RefCell<Daemon>>);
struct ToDaemon(Rc<RefCell<Daemon>>, Vec<u8>);

impl ErrorType for FromDaemon {
    type Error = Infallible;
}

impl Read for FromDaemon {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, Infallible> {
        poll_fn(|cx: &mut Context<'_>| {
            let daemon = &mut *self.0.borrow_mut();
            while daemon.sent.is_empty() && daemon.step().is_some() {}
            if daemon.sent.is_empty() && !daemon.script.is_empty() {
                daemon.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // Nothing more: the daemon has closed.
            let bytes = to.len().min(daemon.sent.len());
            to.iter_mut().zip(daemon.sent.drain(..bytes)).for_each(|(to, byte)| *to = byte);
            Poll::Ready(Ok(bytes))
        })
        .await
    }
}

impl ErrorType for ToDaemon {
    type Error = Infallible;
}

impl Write for ToDaemon {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Infallible> {
        self.1.extend(from);
        let mut daemon = self.0.borrow_mut();
        while let Ok((header, _)) = Header::read_from_prefix(&self.1) {
            let whole = size_of::<Header>() + header.len as usize;
            if self.1.len() < whole {
                break;
            }
            self.1.drain(..whole);
            daemon.asked.push_back(header);
        }
        if let Some(reader) = daemon.reader.take() {
            reader.wake();
        }
        Ok(from.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

async fn ask(store: Store) {
    let _ = store.read("a").await;
    let _ = store.read_number::<u16>("domid").await;
    let _ = store.directory("/local").await;
    let _ = store.permissions("/local/domain/1").await;
    let _ = store.write("/local/domain/1/data", b"x").await;
    let _ = store.domain_path(xen_platform::DomId(1)).await;
    if let Ok(mut watch) = store.watch("/local/domain/1").await {
        for _ in 0..3 {
            if poll_fn(|cx| watch.poll_next(cx)).await.is_err() {
                break;
            }
        }
    }
    let _ = store.rm("/local/domain/1/data").await;
}

fuzz_target!(|script: &[u8]| {
    let daemon = Rc::new(RefCell::new(Daemon {
        script: script.iter().copied().collect(),
        ..Daemon::default()
    }));
    let (store, driver) =
        xen_store::connect(FromDaemon(daemon.clone()), ToDaemon(daemon.clone(), Vec::new()));
    let mut executor = Executor::new();
    executor.spawner().spawn(driver);
    let mut idle = 0;
    executor.run(ask(store), |turn| {
        idle = if turn == Turn::Idle { idle + 1 } else { 0 };
        // Nobody asks any more: what the script still needs a request for never comes.
        if idle == 1 {
            let mut daemon = daemon.borrow_mut();
            daemon.script.clear();
            if let Some(reader) = daemon.reader.take() {
                reader.wake();
            }
        }
        assert!(idle < 3, "a request waits for ever");
    });
});

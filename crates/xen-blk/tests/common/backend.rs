//! A backend that takes requests apart one by one, so that a test can answer them as it likes.

use super::{BACK, FRONT, GUEST, Host, SECTORS};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use xen_abi::blkif;
use xen_blk::protocol::wire::{
    self, Abi, Decoded, Op, RESPONSE_MAX, RawRequest, Response, Segment,
};
use xen_platform::{Access, Channel, GrantRef, PAGE_SIZE, Platform, Port, SharedMem};
use xen_ring::slots::{Back, Shape};
use xen_sim::{Domain, Map};

/// The features that a backend writes, with their values.
pub type Keys = Vec<(&'static str, String)>;

/// All features there are.
pub fn all_keys() -> Keys {
    [
        ("max-ring-page-order", "4"),
        ("multi-queue-max-queues", "4"),
        ("feature-persistent", "1"),
        ("feature-max-indirect-segments", "256"),
        ("feature-flush-cache", "1"),
        ("feature-barrier", "1"),
        ("feature-discard", "1"),
        ("discard-granularity", "4096"),
        ("discard-alignment", "0"),
        ("discard-secure", "1"),
        ("sector-size", "512"),
        ("info", "0"),
    ]
    .map(|(key, value)| (key, value.to_string()))
    .into_iter()
    .chain([("sectors", SECTORS.to_string())])
    .collect()
}

/// Returns the keys of the plainest backend.
pub fn least_keys() -> Keys {
    vec![("sectors", SECTORS.to_string()), ("info", "0".into())]
}

/// `keys` with one changed; a value of "" takes the key away.
pub fn with(mut keys: Keys, key: &'static str, value: impl ToString) -> Keys {
    let value = value.to_string();
    keys.retain(|(name, _)| *name != key);
    if !value.is_empty() {
        keys.push((key, value));
    }
    keys
}

/// The disk's content. It stays when a backend goes.
#[derive(Clone)]
pub struct Store(pub Rc<RefCell<Vec<u8>>>);

impl Store {
    pub fn new(sectors: u64) -> Self {
        Store(Rc::new(RefCell::new(vec![0; sectors as usize * 512])))
    }
}

/// A connected backend.
pub struct Backend {
    pub host: Host,
    pub store: Store,
    pub abi: Abi,
    pub queues: Vec<Queue>,
    /// Requests carried out, in their order: operation and sector.
    pub log: Vec<(u8, u64)>,
}

pub struct Queue {
    pub mem: Map,
    pub back: Back,
    pub channel: <Domain as Platform>::Channel,
    pub seen: u32,
}

/// Writes the features and says that it waits.
pub fn offer(host: &Host, keys: &Keys) {
    for (key, value) in keys {
        host.xs.set(&format!("{BACK}/{key}"), value);
    }
    set_state(host, 2);
}

pub fn set_state(host: &Host, state: u32) {
    host.xs.set(&format!("{BACK}/state"), state.to_string());
}

pub fn front_state(host: &Host) -> String {
    host.xs
        .get(&format!("{FRONT}/state"))
        .map_or("gone".into(), |state| String::from_utf8(state).unwrap())
}

/// Waits until the frontend's state is one of these.
pub async fn front_is(host: &Host, states: &[&str]) {
    let mut watch = host.store.watch(&format!("{FRONT}/state")).await.unwrap();
    while !states.contains(&front_state(host).as_str()) {
        watch.next().await.unwrap();
    }
}

fn key(host: &Host, path: &str) -> Option<String> {
    host.xs.get(&format!("{FRONT}/{path}")).map(|value| String::from_utf8(value).unwrap())
}

fn number(host: &Host, path: &str) -> Option<u32> {
    key(host, path).map(|value| value.parse().unwrap())
}

impl Backend {
    /// Offers, waits for the frontend and connects.
    pub async fn start(host: &Host, store: &Store, keys: &Keys) -> Backend {
        offer(host, keys);
        front_is(host, &["3", "4"]).await;
        Self::connect(host, store)
    }

    /// As a backend that was killed and started anew: it waits until the frontend has begun anew,
    /// too.
    pub async fn start_anew(host: &Host, store: &Store, keys: &Keys) -> Backend {
        for (key, _) in all_keys() {
            if host.xs.get(&format!("{BACK}/{key}")).is_some() {
                host.xs.remove(&format!("{BACK}/{key}"));
            }
        }
        set_state(host, 1);
        front_is(host, &["1"]).await;
        Self::start(host, store, keys).await
    }

    /// Maps what the frontend has published.
    pub fn connect(host: &Host, store: &Store) -> Backend {
        let abi = Abi::from_name(&key(host, "protocol").unwrap()).unwrap();
        let order = number(host, "ring-page-order").unwrap_or(0);
        let queues = number(host, "multi-queue-num-queues").unwrap_or(1);
        let queue = |n: u32| {
            let folder = if queues > 1 { format!("queue-{n}/") } else { String::new() };
            let refs: Vec<GrantRef> = match order {
                0 => vec![GrantRef(number(host, &format!("{folder}ring-ref")).unwrap())],
                order => (0..1 << order)
                    .map(|n| GrantRef(number(host, &format!("{folder}ring-ref{n}")).unwrap()))
                    .collect(),
            };
            let port = Port(number(host, &format!("{folder}event-channel")).unwrap());
            let mem = host.domain.map(GUEST, &refs, Access::ReadWrite).unwrap();
            let channel = host.domain.connect(GUEST, port).unwrap();
            let back = Back::attach(Shape::new(refs.len() * PAGE_SIZE, abi.slot()), &mem).unwrap();
            Queue { mem, back, channel, seen: 0 }
        };
        let queues = (0..queues).map(queue).collect();
        set_state(host, 4);
        Backend { host: host.clone(), store: store.clone(), abi, queues, log: Vec::new() }
    }

    /// The next request, on any queue; `None` once the frontend closes.
    pub async fn next(&mut self) -> Option<(usize, Decoded)> {
        let mut watch = self.host.store.watch(&format!("{FRONT}/state")).await.unwrap();
        let host = self.host.clone();
        let mut slot = vec![0; self.abi.slot()];
        poll_fn(|cx| {
            loop {
                for (number, queue) in self.queues.iter_mut().enumerate() {
                    // One that plays with the ring's memory may have broken it for itself.
                    match queue.back.take(&queue.mem, &mut slot) {
                        Ok(true) => {
                            return Poll::Ready(Some((number, wire::decode(self.abi, &slot))));
                        }
                        Ok(false) => {}
                        Err(_) => return Poll::Ready(None),
                    }
                }
                if !["3", "4"].contains(&front_state(&host).as_str()) {
                    return Poll::Ready(None);
                }
                let mut moved = watch.poll_next(cx).is_ready();
                for queue in &mut self.queues {
                    moved |= queue.channel.poll_after(&mut queue.seen, cx).is_ready();
                    moved |= queue.back.arm(&queue.mem).unwrap_or(false);
                }
                if !moved {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Writes a response as it is, if there is a request to answer.
    pub fn respond(&mut self, queue: usize, response: Response) {
        let queue = &mut self.queues[queue];
        if queue.back.unanswered() == 0 {
            return;
        }
        let bytes: [u8; RESPONSE_MAX] = response.encode();
        queue.back.put(&queue.mem, &bytes[..self.abi.response()]);
        if queue.back.push(&queue.mem) {
            queue.channel.notify();
        }
    }

    /// Carries a request out and answers it.
    pub fn answer(&mut self, queue: usize, request: &Decoded) {
        let status = self.carry_out(request);
        self.respond(queue, Response { id: request.id, operation: request.operation, status });
    }

    /// Answers a request with this status without carrying it out.
    pub fn refuse(&mut self, queue: usize, request: &Decoded, status: i16) {
        self.respond(queue, Response { id: request.id, operation: request.operation, status });
    }

    /// Does what a request asks for; gives the status.
    pub fn carry_out(&mut self, request: &Decoded) -> i16 {
        let body =
            request.request.as_ref().unwrap_or_else(|wrong| panic!("a malformed request: {wrong}"));
        match body {
            RawRequest::Direct { op, sector, segments } => self.move_data(*op, *sector, segments),
            RawRequest::Indirect { op, sector, count, pages } => {
                let Ok(list) = self.host.domain.map(GUEST, pages, Access::ReadOnly) else {
                    return blkif::RSP_ERROR;
                };
                let mut bytes = vec![0; count * 8];
                list.read(0, &mut bytes);
                match wire::segments(&bytes) {
                    Ok(segments) => self.move_data(*op, *sector, &segments),
                    Err(_) => blkif::RSP_ERROR,
                }
            }
            RawRequest::Discard { sector, count, .. } => {
                self.log.push((blkif::OP_DISCARD, *sector));
                let end = sector.saturating_add(*count).saturating_mul(512) as usize;
                match self.store.0.borrow_mut().get_mut(sector.saturating_mul(512) as usize..end) {
                    Some(sectors) => sectors.fill(0xdd),
                    None => return blkif::RSP_ERROR,
                }
                blkif::RSP_OKAY
            }
        }
    }

    fn move_data(&mut self, op: Op, sector: u64, segments: &[Segment]) -> i16 {
        self.log.push((op.code(), sector));
        let mut at = sector.min(1 << 40) as usize * 512;
        for segment in segments {
            let len = segment.sectors() as usize * 512;
            let start = usize::from(segment.first) * 512;
            let mut disk = self.store.0.borrow_mut();
            let Some(part) = disk.get_mut(at..at + len) else { return blkif::RSP_ERROR };
            let Ok(page) = self.host.domain.map(GUEST, &[segment.gref], Access::ReadWrite) else {
                return blkif::RSP_ERROR;
            };
            match op {
                Op::Read => page.write(start, part),
                _ => page.read(start, part),
            }
            at += len;
        }
        blkif::RSP_OKAY
    }

    /// Serves until the frontend closes, then closes, too; gives what was done.
    pub async fn serve(mut self) -> Vec<(u8, u64)> {
        while let Some((queue, request)) = self.next().await {
            self.answer(queue, &request);
        }
        self.close().await
    }

    /// Lets go when the frontend closes.
    pub async fn close(self) -> Vec<(u8, u64)> {
        let Backend { host, queues, log, .. } = self;
        front_is(&host, &["5", "6", "gone"]).await;
        set_state(&host, 5);
        front_is(&host, &["6", "gone"]).await;
        drop(queues);
        set_state(&host, 6);
        log
    }
}

/// Runs `work` until the other future is ready; says what that gave.
pub async fn until<T>(work: impl Future<Output = ()>, end: impl Future<Output = T>) -> T {
    let (mut work, mut end) = (pin!(work), pin!(end));
    poll_fn(|cx| {
        let _ = work.as_mut().poll(cx);
        end.as_mut().poll(cx)
    })
    .await
}

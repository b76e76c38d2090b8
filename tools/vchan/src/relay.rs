//! Copies both ways between the channel and a pair of streams.

mod patience;

use crate::{Code, Failure};
use embedded_io_async::{Read, Write};
use patience::{delivered, heard};
use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use xen_exec::yield_now;
use xen_platform::{Platform, sleep};
use xen_vchan::{Connection, Error, Reader, Role, Writer};

/// Bytes moved in one piece.
const CHUNK: usize = 64 * 1024;

/// What the channel is joined with.
pub(crate) struct Between {
    /// How it ends once the input has ended.
    pub ending: Ending,
    /// How long a server may take to show that it is at work: to take the first of what is sent, to send something, or
    /// to wait for more once the input has ended.
    pub reaction: Option<Duration>,
    /// What to call the input and the output in errors.
    pub input: &'static str,
    pub output: &'static str,
}

impl Between {
    pub const STDIO: Between =
        Between { ending: Ending::ByPeer, reaction: None, input: "standard input", output: "standard output" };
}

/// How the relay ends once its input has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// When the peer has read all that was sent, waits for more, and has sent nothing for so long: then no answer is
    /// under way.
    Quiet(Duration),
    /// When the peer has read all that was sent: who made the input is gone. The output may break before that, and what
    /// comes then is thrown away. Once the peer is gone, an output that takes nothing for as long as `stuck` ends it.
    Drained { stuck: Duration },
    /// When the peer closes the channel.
    ByPeer,
}

impl Ending {
    /// Whether what the output does not take is thrown away.
    fn drops_rest(self) -> bool {
        matches!(self, Ending::Drained { .. })
    }
}

/// What one direction lets the other know.
#[derive(Default)]
struct Progress {
    /// Bytes that came from the peer; wraps.
    received: Cell<u64>,
    /// Such bytes wait for room in the output, or the ring was not looked into since.
    delivering: Cell<bool>,
    /// Bytes of the input that do not fit the ring yet.
    unsent: Cell<usize>,
    /// Bytes of the input that are in the ring or were.
    sent: Cell<u64>,
    /// The peer is known to be at work.
    reacted: Cell<bool>,
}

/// Why the way to the peer ended before its time.
enum Stopped<E> {
    /// The input cannot be read, or the peer is silent.
    Failed(Failure),
    /// The connection is over.
    Connection(Error<E>),
}

/// Who was done first.
enum First<E> {
    /// The way from the peer: it has closed the channel, if there is no failure.
    Down(Result<(), Failure>),
    /// The way to the peer.
    Up(Result<(), Stopped<E>>),
}

/// Copies `input` to the channel and the channel to `output`. Ends well when the peer closes the channel, having read all
/// that was sent; or after the input has ended, as `between` says. All that came from the peer is in `output` by then,
/// also when this fails.
pub(crate) async fn relay<P: Platform>(
    platform: &P,
    connection: &Connection<P>,
    input: impl Read,
    mut output: impl Write,
    between: &Between,
) -> Result<(), Failure> {
    let progress = Progress::default();
    let (reader, writer) = connection.split();
    {
        let mut down = pin!(receive((platform, connection), reader, &mut output, between, &progress));
        let up = pin!(send((platform, connection), input, writer, between, &progress));
        match first(down.as_mut(), up).await {
            First::Down(ended) => return ended.and(all_was_read(connection, &progress).await),
            First::Up(Ok(())) => {}
            First::Up(Err(Stopped::Failed(failure))) => return Err(failure),
            First::Up(Err(Stopped::Connection(error))) => {
                // The other direction may still have something to deliver, and then knows better why it ended.
                down.await?;
                return match error {
                    Error::Closed => all_was_read(connection, &progress).await,
                    error => Err(error.into()),
                };
            }
        }
    }
    deliver_rest(platform, connection, &mut output, between).await
}

/// Waits for the first of the two.
async fn first<E>(
    mut down: Pin<&mut impl Future<Output = Result<(), Failure>>>,
    mut up: Pin<&mut impl Future<Output = Result<(), Stopped<E>>>>,
) -> First<E> {
    poll_fn(|cx| match down.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(First::Down(ended)),
        Poll::Pending => up.as_mut().poll(cx).map(First::Up),
    })
    .await
}

/// From the peer to the output, until the peer closes the channel.
async fn receive<P: Platform>(
    (platform, connection): (&P, &Connection<P>),
    mut reader: Reader<P>,
    output: &mut impl Write,
    between: &Between,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK];
    let mut broken = false;
    loop {
        let count = reader.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        progress.received.set(progress.received.get().wrapping_add(count as u64));
        progress.delivering.set(true);
        if !broken {
            let delivery = deliver(output, &chunk[..count], between);
            match delivered(platform, connection, between, delivery).await? {
                Err(_) if between.ending.drops_rest() => broken = true,
                done => done?,
            }
        }
        // Where neither side ever waits, the other direction and a signal must get their turn all the same.
        yield_now().await;
        progress.delivering.set(false);
    }
}

async fn deliver(output: &mut impl Write, bytes: &[u8], between: &Between) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Other, format!("cannot write to {}: {error}", between.output))
    };
    output.write_all(bytes).await.map_err(|error| failed(&error))?;
    output.flush().await.map_err(|error| failed(&error))
}

/// From the input to the peer, and then the wait for the peer to have nothing more to say.
async fn send<P: Platform>(
    (platform, connection): (&P, &Connection<P>),
    mut input: impl Read,
    mut writer: Writer<P>,
    between: &Between,
    progress: &Progress,
) -> Result<(), Stopped<P::Error>> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = input.read(&mut chunk).await.map_err(|error| {
            Stopped::Failed(Failure::new(Code::Other, format!("cannot read {}: {error}", between.input)))
        })?;
        if count == 0 {
            break;
        }
        progress.unsent.set(count);
        while progress.unsent.get() > 0 {
            let rest = &chunk[count - progress.unsent.get()..count];
            let write = async || writer.write(rest).await;
            let written = heard(platform, connection, between, progress, write).await?;
            progress.unsent.set(progress.unsent.get() - written);
            progress.sent.set(progress.sent.get() + written as u64);
        }
        yield_now().await;
    }
    match between.ending {
        Ending::Quiet(linger) => {
            heard(platform, connection, between, progress, async || writer.settled().await).await?;
            progress.reacted.set(true);
            quiet(platform, &mut writer, linger, progress).await.map_err(Stopped::Connection)
        }
        Ending::Drained { .. } => writer.drained().await.map_err(Stopped::Connection),
        Ending::ByPeer => pending().await,
    }
}

/// Waits until the peer, which has settled, has sent nothing for as long as `linger` and still has read everything and
/// waits for more. However slow it is, a peer of one task has answered all it was sent by the time it waits; `linger` is
/// for those that answer from another.
async fn quiet<P: Platform>(
    platform: &P,
    writer: &mut Writer<P>,
    linger: Duration,
    progress: &Progress,
) -> Result<(), Error<P::Error>> {
    // Without a pause between two looks the peer's answer would never get its turn.
    let linger = linger.max(Duration::from_millis(1));
    loop {
        let received = progress.received.get();
        sleep(platform, linger).await;
        let silent = progress.received.get() == received && !progress.delivering.get();
        if silent && writer.idle()? {
            return Ok(());
        }
        writer.settled().await?;
    }
}

/// Delivers what came in the moment between the last look and now.
async fn deliver_rest<P: Platform>(
    platform: &P,
    connection: &Connection<P>,
    output: &mut impl Write,
    between: &Between,
) -> Result<(), Failure> {
    let (mut reader, _) = connection.split();
    let mut chunk = vec![0; CHUNK];
    while let Some(count) = reader.try_read(&mut chunk)? {
        if count == 0 {
            break;
        }
        match delivered(platform, connection, between, deliver(output, &chunk[..count], between)).await? {
            Err(_) if between.ending.drops_rest() => break,
            done => done?,
        }
    }
    Ok(())
}

/// After the peer has left: whether it had read everything.
async fn all_was_read<P: Platform>(connection: &Connection<P>, progress: &Progress) -> Result<(), Failure> {
    let (_, mut writer) = connection.split();
    match writer.drained().await {
        Ok(()) if progress.unsent.get() == 0 => Ok(()),
        Ok(()) | Err(Error::Closed) => {
            let peer = match connection.info().role {
                Role::Client => "server",
                Role::Server => "client",
            };
            Err(Failure::new(Code::Other, format!("the {peer} closed the channel before it had read everything")))
        }
        Err(error) => Err(error.into()),
    }
}

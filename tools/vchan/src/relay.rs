//! Copies both ways between a channel and a pair of local streams.
//!
//! ```text
//!   input  ──read──> upload   ──write──> channel      end of input: finish(), drained()
//!   output <─write── download <──read─── channel      end of the peer's output: drop(output)
//! ```
//! Each direction ends on its own, and the relay when both have, or when the peer closes the
//! channel. With a peer that cannot half-close the end of the input cannot be told, so there
//! [`EndPolicy`] decides when the relay ends. A [`Transfer`] counts what went through, for both
//! directions and for the caller.

mod guard;
mod transfer;

pub(crate) use transfer::Transfer;

use crate::{Code, Failure};
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};
use guard::{delivered, heard};
use std::fmt::Display;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;
use xen_exec::yield_now;
use xen_platform::{Platform, sleep};
use xen_vchan::{Connection, Error, Live, Reader, Role, Writer};

/// Bytes moved in one piece.
const CHUNK: usize = 64 * 1024;

/// The local side of a relay, and its limits.
#[derive(Clone, Copy)]
pub(crate) struct RelayConfig {
    pub end: EndPolicy,
    /// Time within which a server must show that it is at work: take some of what is sent, see its
    /// end, or send something.
    pub reaction: Option<Duration>,
    /// The names of the input and the output in messages.
    pub input: &'static str,
    pub output: &'static str,
}

/// The end of a relay whose peer cannot half-close, once the input has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndPolicy {
    /// The peer closes the channel.
    ByPeer,
    /// The peer closes the channel; or it has read all that was sent, waits for more and has sent
    /// nothing for this time. Then it might still have sent something.
    Linger(Duration),
    /// The peer has read all that was sent: the input was the output of a local program or
    /// connection, which is over then. That program may end first, so what it does not take is
    /// thrown away. Once the peer is gone, a program that takes nothing for as long as `stuck` ends
    /// the relay.
    Drained { stuck: Duration },
}

impl RelayConfig {
    /// Standard input and output.
    pub fn stdio(end: EndPolicy, reaction: Option<Duration>) -> Self {
        RelayConfig { end, reaction, input: "standard input", output: "standard output" }
    }

    /// True if what the output does not take is thrown away.
    fn drops_rest(&self) -> bool {
        matches!(self.end, EndPolicy::Drained { .. })
    }
}

/// The reason why the upload ended before its time.
enum Broken<E> {
    /// The input cannot be read, or the peer is silent.
    Local(Failure),
    /// The connection is over.
    Connection(Error<E>),
}

impl<E> From<Error<E>> for Broken<E> {
    fn from(error: Error<E>) -> Self {
        Broken::Connection(error)
    }
}

/// One connection with its limits and its counts.
pub(crate) struct Relay<'a, P: Platform> {
    pub platform: &'a P,
    pub connection: &'a Connection<P>,
    pub config: &'a RelayConfig,
    pub transfer: &'a Transfer,
}

impl<P: Platform> Relay<'_, P> {
    /// Copies `input` to the channel and the channel to `output`, until both directions have ended
    /// or the peer has closed the channel, having read all that was sent. `local_over` ends a relay
    /// with a local program once that program and its output have ended. All that came from the
    /// peer is in `output` by then, also when this fails.
    pub async fn run(
        &self,
        input: impl Read,
        output: impl Write,
        local_over: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let (reader, writer) = self.connection.split();
        let mut output = Some(output);
        let over = {
            let mut download = pin!(self.download(reader, &mut output));
            let mut upload = pin!(self.upload(input, writer));
            match select(download.as_mut(), upload.as_mut()).await {
                Either::First(received) => return self.after_download(received, upload).await,
                Either::Second(sent) => self.after_upload(sent, download, local_over).await?,
            }
        };
        match over {
            Over::AllMoved => Ok(()),
            Over::Deliver(then) => {
                self.deliver_rest(&mut output).await?;
                then
            }
        }
    }

    /// The peer's output has ended: goes on with the input unless the peer has left.
    async fn after_download(
        &self,
        received: Result<(), Failure>,
        upload: Pin<&mut impl Future<Output = Result<(), Broken<P::Error>>>>,
    ) -> Result<(), Failure> {
        received?;
        if self.connection.state() == Live::Connected {
            match select(upload, self.connection.over()).await {
                Either::First(Ok(())) => return self.after_both().await,
                Either::First(Err(Broken::Local(failure))) => return Err(failure),
                Either::First(Err(Broken::Connection(_))) | Either::Second(()) => {}
            }
        }
        self.check_all_taken()
    }

    /// The input has ended: goes on with the peer's output, as far as its end can be known.
    async fn after_upload(
        &self,
        sent: Result<(), Broken<P::Error>>,
        download: Pin<&mut impl Future<Output = Result<(), Failure>>>,
        local_over: impl Future<Output = ()>,
    ) -> Result<Over, Failure> {
        match (sent, self.config.end) {
            (Err(Broken::Local(failure)), _) => return Err(failure),
            (Err(Broken::Connection(error)), _) => {
                // The other direction may still have something to deliver, and then knows better
                // why it ended.
                download.await?;
                match error {
                    Error::Closed => self.check_all_taken()?,
                    error => return Err(error.into()),
                }
            }
            (Ok(()), EndPolicy::Drained { .. }) if self.connection.can_half_close() => {
                match select(download, local_over).await {
                    Either::First(received) => received?,
                    Either::Second(()) => return Ok(Over::Deliver(Ok(()))),
                }
            }
            (Ok(()), _) if self.connection.can_half_close() => {
                download.await?;
                self.after_both().await?;
            }
            (Ok(()), EndPolicy::ByPeer) => {
                download.await?;
                self.check_all_taken()?;
            }
            (Ok(()), EndPolicy::Linger(linger)) => match select(download, self.quiet(linger)).await
            {
                Either::First(received) => {
                    received?;
                    self.check_all_taken()?;
                }
                Either::Second(quiet) => {
                    quiet?;
                    return Ok(Over::Deliver(Err(self.cut(linger))));
                }
            },
            (Ok(()), EndPolicy::Drained { .. }) => return Ok(Over::Deliver(Ok(()))),
        }
        Ok(Over::AllMoved)
    }

    /// Both directions have ended: the server closes the channel, since it may leave a status.
    async fn after_both(&self) -> Result<(), Failure> {
        if self.connection.info().role == Role::Client {
            self.connection.over().await;
        }
        Ok(())
    }

    /// Copies from the peer to the output until the peer's output has ended, and ends the output.
    async fn download(
        &self,
        mut reader: Reader<P>,
        output: &mut Option<impl Write>,
    ) -> Result<(), Failure> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = reader.read(&mut chunk).await?;
            if count == 0 {
                *output = None;
                return Ok(());
            }
            self.transfer.delivering(count);
            if !self.deliver(output, &chunk[..count]).await? {
                *output = None;
            }
            // Where neither side ever waits, the other direction and a signal must get their turn
            // all the same.
            yield_now().await;
            self.transfer.delivered();
        }
    }

    /// Delivers what came in the moment between the last look and now.
    async fn deliver_rest(&self, output: &mut Option<impl Write>) -> Result<(), Failure> {
        let (mut reader, _) = self.connection.split();
        let mut chunk = vec![0; CHUNK];
        while let Some(count @ 1..) = reader.try_read(&mut chunk)? {
            self.transfer.delivering(count);
            if !self.deliver(output, &chunk[..count]).await? {
                break;
            }
        }
        Ok(())
    }

    /// Writes to the output, if it still takes something. Returns false if the output is over and
    /// the rest is thrown away.
    async fn deliver(
        &self,
        output: &mut Option<impl Write>,
        bytes: &[u8],
    ) -> Result<bool, Failure> {
        let Some(output) = output else { return Ok(false) };
        let write = async {
            output.write_all(bytes).await.map_err(|error| self.output_failed(&error))?;
            output.flush().await.map_err(|error| self.output_failed(&error))
        };
        match delivered(self, write).await? {
            Err(_) if self.config.drops_rest() => Ok(false),
            done => done.map(|()| true),
        }
    }

    fn output_failed(&self, error: &dyn Display) -> Failure {
        Failure::other(format!("cannot write to {}: {error}", self.config.output))
    }

    /// Copies the input to the peer, announces its end, and waits until the peer has seen it.
    async fn upload(
        &self,
        mut input: impl Read,
        mut writer: Writer<P>,
    ) -> Result<(), Broken<P::Error>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = input.read(&mut chunk).await.map_err(|error| {
                let text = format!("cannot read {}: {error}", self.config.input);
                Broken::Local(Failure::other(text))
            })?;
            if count == 0 {
                break;
            }
            self.transfer.to_send(count);
            while self.transfer.unsent() > 0 {
                let rest = &chunk[count - self.transfer.unsent()..count];
                let sent = heard(self, async || writer.write(rest).await).await?;
                self.transfer.sent(sent);
            }
            yield_now().await;
        }
        writer.finish()?;
        heard(self, async || writer.drained().await).await
    }

    /// Waits until the peer, which cannot half-close, has read everything, waits for more, and has
    /// sent nothing for as long as `linger`. However slow it is, a peer of one task has responded
    /// to all it was sent by the time it waits; `linger` is for those that respond from another.
    async fn quiet(&self, linger: Duration) -> Result<(), Failure> {
        let (_, mut writer) = self.connection.split();
        let settled = heard(self, async || writer.settled().await).await;
        settled.map_err(|broken| match broken {
            Broken::Local(failure) => failure,
            Broken::Connection(error) => error.into(),
        })?;
        // Without a pause between two looks the peer's response would never get its turn.
        let linger = linger.max(Duration::from_millis(1));
        loop {
            let received = self.transfer.received();
            sleep(self.platform, linger).await;
            let silent = self.transfer.received() == received && !self.transfer.is_delivering();
            if silent && writer.idle()? {
                return Ok(());
            }
            writer.settled().await?;
        }
    }

    fn cut(&self, linger: Duration) -> Failure {
        let Transfer { .. } = self.transfer;
        let text = format!(
            "left after {linger:?} of silence (--linger): the server cannot tell the end of its \
             output, and might still have sent something"
        );
        Failure::new(Code::Cut, text)
    }

    /// After the peer has left: checks that it had read everything. A command that ran there and
    /// left its status had its reasons not to.
    fn check_all_taken(&self) -> Result<(), Failure> {
        if self.connection.peer_status().is_some() {
            return Ok(());
        }
        let (_, mut writer) = self.connection.split();
        let unread = writer.unread()? + self.transfer.unsent();
        if unread == 0 {
            return Ok(());
        }
        let peer = match self.connection.info().role {
            Role::Client => "server",
            Role::Server => "client",
        };
        Err(Failure::other(format!(
            "the {peer} closed the channel before it had read everything: {unread} bytes or more \
             were not taken"
        )))
    }
}

/// The rest of a relay's work once the input has ended.
enum Over {
    /// All bytes of both directions have arrived.
    AllMoved,
    /// Bytes that came since the last look are to be delivered, and then this is the result.
    Deliver(Result<(), Failure>),
}

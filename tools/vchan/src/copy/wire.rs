//! Messages and data of a copy. Each stands behind a word with its length, whose highest bit tells
//! data from a message.

use crate::{Code, Failure};
use embedded_io_async::{Read, ReadExactError, Write};
use serde::{Deserialize, Serialize};

/// The version of the messages, in the first of them.
pub(super) const VERSION: u32 = 1;

/// The most bytes of a message: that of the longest path and some more.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The most bytes of a piece of data.
pub(super) const MAX_DATA_BYTES: usize = 256 * 1024;

/// The most characters of the peer's text that are shown.
const MAX_SHOWN_CHARS: usize = 500;

/// Marks data.
const DATA: u32 = 1 << 31;

/// Number of bytes in front of a message or data.
const HEADER: usize = 4;

/// A BLAKE3 hash.
pub(super) type Hash = [u8; 32];

/// The messages of a copy. Paths are relative to the top of what is copied, whose own is empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The client sends a file or folder called `name`, to `path` at the server.
    Put { version: u32, path: Vec<u8>, name: Vec<u8> },
    /// The client receives what is at `path` at the server.
    Get { version: u32, path: Vec<u8> },
    /// A folder, before all that is in it.
    Folder { path: Vec<u8> },
    /// A file, with its permission bits and its length in bytes.
    File { path: Vec<u8>, mode: u32, size: u64 },
    /// The receiver has this many bytes of that file, with this hash.
    Have { bytes: u64, hash: Hash },
    /// Data follows, from this byte of the file to its end: from the end of what the receiver has,
    /// if that is right, and else from 0.
    From { at: u64 },
    /// The data is complete; the hash is that of the whole file.
    Done { hash: Hash },
    /// The file is stored under its name.
    Stored,
    /// Something was left out that is neither a file nor a folder.
    Skipped { path: Vec<u8> },
    /// Everything was sent.
    End,
    /// Everything is stored.
    Ended,
    /// The copy cannot go on.
    Failed { text: String },
}

/// A message, or the length of data that is in [`Peer::data`].
#[derive(Debug)]
pub(super) enum Frame {
    Message(Message),
    Data(usize),
}

/// The other side of a copy.
pub(super) struct Peer<R, W> {
    reader: R,
    writer: W,
    /// A header and what follows it.
    buffer: Vec<u8>,
}

impl<R: Read, W: Write> Peer<R, W> {
    pub fn new((reader, writer): (R, W)) -> Self {
        Peer { reader, writer, buffer: vec![0; HEADER + MAX_DATA_BYTES] }
    }

    /// Returns the place of data, to be filled before [`Peer::send_data`], or received.
    pub fn data(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADER..]
    }

    /// Sends a message. If the peer has left, its reason is the error.
    pub async fn send(&mut self, message: &Message) -> Result<(), Failure> {
        let bytes = postcard::to_allocvec(message).map_err(Failure::other)?;
        let header = (bytes.len() as u32).to_le_bytes();
        let sent = self.writer.write_all(&[&header[..], &bytes].concat()).await;
        self.unless_left(sent.map_err(Failure::other)).await
    }

    /// Sends the first `count` bytes of [`Peer::data`].
    pub async fn send_data(&mut self, count: usize) -> Result<(), Failure> {
        self.buffer[..HEADER].copy_from_slice(&(DATA | count as u32).to_le_bytes());
        let sent = self.writer.write_all(&self.buffer[..HEADER + count]).await;
        self.unless_left(sent.map_err(Failure::other)).await
    }

    /// Returns the reason that the peer gave before it left, if sending has failed.
    async fn unless_left(&mut self, sent: Result<(), Failure>) -> Result<(), Failure> {
        let Err(failure) = sent else { return Ok(()) };
        loop {
            match self.receive().await {
                Ok(Frame::Message(Message::Failed { text })) => return Err(told(&text)),
                Ok(_) => {}
                Err(_) => return Err(failure),
            }
        }
    }

    /// Waits for a message or data.
    pub async fn receive(&mut self) -> Result<Frame, Failure> {
        let mut header = [0; HEADER];
        read_exact(&mut self.reader, &mut header).await?;
        let word = u32::from_le_bytes(header);
        let count = (word & !DATA) as usize;
        let is_data = word & DATA != 0;
        let most = if is_data { MAX_DATA_BYTES } else { MAX_MESSAGE_BYTES };
        if count == 0 || count > most {
            return Err(broken(&format!("it sends a piece of {count} bytes, of at most {most}")));
        }
        let bytes = &mut self.buffer[HEADER..HEADER + count];
        read_exact(&mut self.reader, bytes).await?;
        if is_data {
            return Ok(Frame::Data(count));
        }
        parse(bytes).map(Frame::Message)
    }

    /// Waits for a message. Fails at data, and with the peer's reason if it gives up.
    pub async fn message(&mut self) -> Result<Message, Failure> {
        match self.receive().await? {
            Frame::Message(Message::Failed { text }) => Err(told(&text)),
            Frame::Message(message) => Ok(message),
            Frame::Data(_) => Err(broken("it sends data where a message must be")),
        }
    }

    /// Gives up: tells the peer the reason, unless it is the peer's own.
    pub async fn fail(&mut self, failure: &Failure) {
        if failure.code != Code::Gone {
            // A peer that has left needs no reason.
            let text = failure.text.clone();
            let _ = self.send(&Message::Failed { text }).await;
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Message, Failure> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(broken("it sends a message that is none of a copy's")),
    }
}

async fn read_exact(reader: &mut impl Read, to: &mut [u8]) -> Result<(), Failure> {
    reader.read_exact(to).await.map_err(|error| match error {
        ReadExactError::UnexpectedEof => {
            Failure::new(Code::Gone, "the other side has left in the middle of the copy")
        }
        ReadExactError::Other(error) => Failure::new(Code::Gone, error.to_string()),
    })
}

/// Returns the failure of a peer that breaks the protocol.
pub(super) fn broken(what: &str) -> Failure {
    Failure::new(Code::Protocol, format!("the other side is no vchan cp: {what}"))
}

/// Returns the failure for a message where data must be: the peer's own, if it gives up.
pub(super) fn unexpected(message: Message) -> Failure {
    match message {
        Message::Failed { text } => told(&text),
        _ => broken("it sends a message where data must be"),
    }
}

/// Returns the failure that the peer tells.
fn told(text: &str) -> Failure {
    Failure::other(format!("the other side says: {}", shown(text.as_bytes())))
}

/// Returns a text or name of the peer's for the user's terminal, which obeys control characters.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().take(MAX_SHOWN_CHARS).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_do_harm(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn file_survives_the_wire(path: Vec<u8>, mode: u32, size: u64) {
            let message = Message::File { path, mode, size };
            let bytes = postcard::to_allocvec(&message).unwrap();
            prop_assert_eq!(parse(&bytes), Ok(message));
        }

        #[test]
        fn text_of_a_peer_has_no_control_characters(text: Vec<u8>) {
            prop_assert!(!shown(&text).contains(char::is_control));
        }
    }
}

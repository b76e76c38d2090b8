//! The language between the testbed and its agent in dom0: frames on a byte
//! stream, each about one process.
//!
//! ```text
//! "RS" 1 kind | id: u32 | length: u32 | payload        (little endian)
//! ```
//! A stream that does not follow this is given up, never guessed at.

use std::fmt;

/// The longest payload that a frame may carry.
pub const MAX_PAYLOAD: usize = 1 << 20;
const HEADER: usize = 12;
const MAGIC: [u8; 3] = [b'R', b'S', 1];

/// End of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Code(code) => write!(f, "exit code {code}"),
            Status::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working folder; empty for the agent's own.
    pub cwd: String,
    /// Variables set beside the agent's own.
    pub env: Vec<(String, String)>,
    /// True if it gets a terminal instead of pipes.
    pub terminal: bool,
}

/// News of a process in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The agent is there (its first words).
    Hello,
    /// To the agent: start a process.
    Exec(Request),
    /// To the agent: bytes for its standard input.
    Stdin(Vec<u8>),
    /// To the agent: no more input.
    StdinEnd,
    /// To the agent: send a signal to the process and its children.
    Signal(i32),
    /// From the agent: bytes of its standard output.
    Stdout(Vec<u8>),
    /// From the agent: bytes of its standard error.
    Stderr(Vec<u8>),
    /// From the agent: it ended, and nothing follows.
    Exit(Status),
    /// From the agent: it could not be started, and why.
    Failed(String),
}

/// A message about process `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of the process, chosen by the side that starts it.
    pub id: u32,
    /// The content.
    pub message: Message,
}

/// Bytes that are not a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed frame: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Frame {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = self.message.parts();
        let mut out = Vec::with_capacity(HEADER + payload.len());
        out.extend(MAGIC);
        out.push(kind);
        out.extend(self.id.to_le_bytes());
        out.extend((payload.len() as u32).to_le_bytes());
        out.extend(payload);
        out
    }
}

impl Message {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Message::Hello => (0, Vec::new()),
            Message::Exec(request) => (1, request.encode()),
            Message::Stdin(data) => (2, data.clone()),
            Message::StdinEnd => (3, Vec::new()),
            Message::Signal(number) => (4, number.to_le_bytes().to_vec()),
            Message::Stdout(data) => (5, data.clone()),
            Message::Stderr(data) => (6, data.clone()),
            Message::Exit(Status::Code(code)) => (7, code.to_le_bytes().to_vec()),
            Message::Exit(Status::Signal(number)) => (8, number.to_le_bytes().to_vec()),
            Message::Failed(text) => (9, text.as_bytes().to_vec()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Message, Malformed> {
        let number =
            || Ok(i32::from_le_bytes(payload.try_into().map_err(|_| Malformed("number"))?));
        let empty = |message| {
            if payload.is_empty() { Ok(message) } else { Err(Malformed("unexpected payload")) }
        };
        match kind {
            0 => empty(Message::Hello),
            1 => Ok(Message::Exec(Request::decode(payload)?)),
            2 => Ok(Message::Stdin(payload.to_vec())),
            3 => empty(Message::StdinEnd),
            4 => Ok(Message::Signal(number()?)),
            5 => Ok(Message::Stdout(payload.to_vec())),
            6 => Ok(Message::Stderr(payload.to_vec())),
            7 => Ok(Message::Exit(Status::Code(number()?))),
            8 => Ok(Message::Exit(Status::Signal(number()?))),
            9 => Ok(Message::Failed(text(payload)?)),
            _ => Err(Malformed("unknown kind")),
        }
    }
}

impl Request {
    /// Texts ended by zero bytes: terminal, folder, number of arguments, the
    /// arguments, then the variables as NAME=VALUE.
    fn encode(&self) -> Vec<u8> {
        let mut texts =
            vec![self.terminal.to_string(), self.cwd.clone(), self.argv.len().to_string()];
        texts.extend(self.argv.iter().cloned());
        texts.extend(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        texts
            .into_iter()
            .flat_map(|text| text.into_bytes().into_iter().filter(|byte| *byte != 0).chain([0]))
            .collect()
    }

    fn decode(payload: &[u8]) -> Result<Request, Malformed> {
        let whole = text(payload)?;
        let mut texts =
            whole.strip_suffix('\0').ok_or(Malformed("request without end"))?.split('\0');
        let mut next = || texts.next().ok_or(Malformed("short request"));
        let terminal = next()?.parse().map_err(|_| Malformed("terminal"))?;
        let cwd = next()?.to_string();
        let count: usize = next()?.parse().map_err(|_| Malformed("count"))?;
        let argv = (0..count).map(|_| next().map(str::to_string)).collect::<Result<_, _>>()?;
        let pair = |text: &str| {
            text.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
        };
        let env =
            texts.map(|text| pair(text).ok_or(Malformed("variable"))).collect::<Result<_, _>>()?;
        Ok(Request { argv, cwd, env, terminal })
    }
}

fn text(payload: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(payload.to_vec()).map_err(|_| Malformed("text that is not UTF-8"))
}

/// Takes bytes as they come and gives frames.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one. After an error the stream is
    /// beyond repair.
    pub fn frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let bytes = &self.bytes[self.at..];
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        if header[..3] != MAGIC {
            return Err(Malformed("bad magic"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(8) as usize;
        if length > MAX_PAYLOAD {
            return Err(Malformed("too long"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let message = Message::decode(header[3], payload)?;
        self.at += HEADER + length;
        Ok(Some(Frame { id: word(4), message }))
    }
}

#[cfg(test)]
mod tests;

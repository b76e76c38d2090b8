//! The form in which a disk's bytes are kept: compressed or not, encrypted or not.
//!
//! Both are chosen when the disk is made. Encryption is XChaCha20-Poly1305. The nonce is a keyed
//! hash of what is encrypted: the same bytes under the same key are the same object, and are kept
//! once; nobody without the key can tell which bytes they are.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Bytes of a key.
pub const KEY: usize = 32;
const NONCE: usize = 24;

/// Bit of the kind of a piece: it is compressed.
const ZSTD: u8 = 1;
/// Bit of the kind of a piece: it is encrypted.
const SEALED: u8 = 2;

/// Bytes as they are kept.
pub struct Encoded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Steps that were taken, to be undone in the other order.
    pub kind: u8,
}

struct Cipher {
    aead: XChaCha20Poly1305,
    nonces: [u8; 32],
}

/// Compression and encryption of one disk.
#[derive(Default)]
pub struct Codec {
    level: Option<i32>,
    cipher: Option<Cipher>,
}

impl Codec {
    /// Compresses on `level`, if there is one, and encrypts with `key`, if there is one.
    pub fn new(level: Option<i32>, key: Option<&[u8; KEY]>) -> Self {
        let cipher = key.map(|key| Cipher {
            aead: XChaCha20Poly1305::new(&blake3::derive_key("ringside disk contents", key).into()),
            nonces: blake3::derive_key("ringside disk nonces", key),
        });
        Codec { level, cipher }
    }

    /// Returns true if there is a key.
    pub fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    /// Encodes the bytes of a piece.
    pub fn encode(&self, raw: &[u8]) -> io::Result<Encoded> {
        let compressed = match self.level {
            // What does not become shorter by an eighth is not worth the time of a reader.
            Some(level) => {
                Some(zstd::bulk::compress(raw, level)?).filter(|c| c.len() < raw.len() / 8 * 7)
            }
            None => None,
        };
        let (bytes, kind) = match compressed {
            Some(bytes) => (bytes, ZSTD),
            None => (raw.to_vec(), 0),
        };
        match &self.cipher {
            None => Ok(Encoded { bytes, kind }),
            Some(_) => Ok(Encoded { bytes: self.seal(&[kind], bytes)?, kind: kind | SEALED }),
        }
    }

    /// Decodes a piece that is `len` bytes long then.
    pub fn decode(&self, bytes: Vec<u8>, kind: u8, len: usize) -> io::Result<Vec<u8>> {
        if kind & !(ZSTD | SEALED) != 0 {
            return Err(invalid(format!("a piece is of the unknown kind {kind}")));
        }
        let bytes = if kind & SEALED != 0 { self.unseal(&[kind & ZSTD], bytes)? } else { bytes };
        let raw = if kind & ZSTD != 0 { zstd::bulk::decompress(&bytes, len)? } else { bytes };
        match raw.len() == len {
            true => Ok(raw),
            false => {
                Err(invalid(format!("a piece has {} bytes, and {len} were written", raw.len())))
            }
        }
    }

    /// Encrypts `body`, if there is a key, so that it is bound to `clear`.
    pub fn seal(&self, clear: &[u8], body: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(cipher) = &self.cipher else { return Ok(body) };
        let mut hasher = blake3::Hasher::new_keyed(&cipher.nonces);
        hasher.update(&(clear.len() as u64).to_le_bytes()).update(clear).update(&body);
        let mut sealed = hasher.finalize().as_bytes()[..NONCE].to_vec();
        let nonce = nonce(&sealed);
        let text = cipher.aead.encrypt(&nonce, Payload { msg: &body, aad: clear });
        sealed.extend(text.map_err(|_| invalid("it is too long to be encrypted"))?);
        Ok(sealed)
    }

    /// Decrypts what was sealed.
    pub fn unseal(&self, clear: &[u8], sealed: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(cipher) = &self.cipher else { return Ok(sealed) };
        let (head, text) = sealed
            .split_at_checked(NONCE)
            .ok_or_else(|| invalid("something encrypted is too short"))?;
        let opened = cipher.aead.decrypt(&nonce(head), Payload { msg: text, aad: clear });
        opened.map_err(|_| invalid("it cannot be decrypted: the key is wrong, or it is damaged"))
    }
}

fn nonce(bytes: &[u8]) -> XNonce {
    let bytes: [u8; NONCE] = bytes[..NONCE].try_into().expect("that many bytes");
    bytes.into()
}

/// Parses a key: 32 bytes, or 64 hexadecimal digits and the end of a line.
fn parse_key(text: &[u8]) -> io::Result<[u8; KEY]> {
    if let Ok(key) = text.try_into() {
        return Ok(key);
    }
    let digits = text.trim_ascii();
    let hash = (digits.len() == 2 * KEY).then(|| blake3::Hash::from_hex(digits).ok()).flatten();
    hash.map(Into::into).ok_or_else(|| {
        invalid(
            "it is no key: 32 bytes or 64 hexadecimal digits are one, for instance of \
                 openssl rand -hex 32",
        )
    })
}

/// Reads a key from its file, or from what a command prints; `None` if neither is given.
pub fn read_key(path: Option<&Path>, command: Option<&str>) -> io::Result<Option<[u8; KEY]>> {
    let (what, text) = match (path, command) {
        (Some(path), _) => (format!("key {}", path.display()), fs::read(path)),
        (None, Some(command)) => (format!("key of the command {command:?}"), run(command)),
        (None, None) => return Ok(None),
    };
    let key = text.and_then(|text| parse_key(&text));
    key.map(Some).map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}

fn run(command: &str) -> io::Result<Vec<u8>> {
    let mut shell = Command::new("/bin/sh");
    let done =
        shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    match done.status.success() {
        true => Ok(done.stdout),
        false => Err(io::Error::other(format!("the command failed: {}", done.status))),
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_with_its_key_alone(
            raw in proptest::collection::vec(0u8..3, 0..9000),
            level in proptest::option::of(1..4i32),
            key: Option<[u8; KEY]>,
            other: [u8; KEY],
            bit: usize,
        ) {
            let codec = Codec::new(level, key.as_ref());
            let Encoded { bytes, kind } = codec.encode(&raw).unwrap();
            prop_assert_eq!(&bytes, &codec.encode(&raw).unwrap().bytes);
            prop_assert_eq!(codec.decode(bytes.clone(), kind, raw.len()).unwrap(), raw.clone());
            prop_assert!(codec.decode(bytes.clone(), kind, raw.len() + 1).is_err());
            if key.is_some_and(|key| key != other) {
                let wrong = Codec::new(level, Some(&other));
                prop_assert!(wrong.decode(bytes.clone(), kind, raw.len()).is_err());
                let mut damaged = bytes;
                let at = bit % (damaged.len() * 8);
                damaged[at / 8] ^= 1 << (at % 8);
                prop_assert!(codec.decode(damaged, kind, raw.len()).is_err());
            }
        }
    }

    #[test]
    fn key_is_bytes_or_digits() {
        let hex = format!("{}\n", blake3::Hash::from([7; KEY]).to_hex());
        assert_eq!(parse_key(hex.as_bytes()).unwrap(), [7; KEY]);
        assert_eq!(parse_key(&[9; KEY]).unwrap(), [9; KEY]);
        assert!(parse_key(b"secret").is_err());
        let of_command = |command| read_key(None, Some(command)).ok().flatten();
        assert_eq!(of_command("printf %064d 0"), Some([0; KEY]));
        assert_eq!(of_command("false"), None);
    }
}

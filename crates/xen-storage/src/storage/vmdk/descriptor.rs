//! The text that describes an image (VMware's "Virtual Disk Format 5.0").
//!
//! It is taken as bytes: old versions write file names in whatever encoding the machine had, and a
//! line `encoding=` names it. Keys that do not change where the data are (change tracking, native
//! snapshots, geometry) are passed over.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// An image that stands on no other.
const NO_PARENT: &str = "ffffffff";

/// The parts of a disk, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub extents: Vec<Extent>,
}

/// One part of a disk.
#[derive(Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in sectors of 512 bytes.
    pub sectors: u64,
    pub kind: Kind,
}

/// Place of the data of a part.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// In a file, from `offset` bytes on.
    Flat { file: PathBuf, offset: u64 },
    /// Nowhere: it is zero.
    Zero,
}

impl Descriptor {
    /// Takes a descriptor apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(b"KDMV") || bytes.starts_with(b"COWD") {
            return Err(sparse("the image"));
        }
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first).to_ascii_lowercase();
        if !first.trim_start_matches('\u{feff}').trim().starts_with("# disk descriptorfile") {
            return Err("it is no VMDK descriptor: it does not begin as one".into());
        }
        let mut extents = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match line.split(u8::is_ascii_whitespace).next() {
                Some(b"RW" | b"RDONLY" | b"NOACCESS") => extents.push(extent(line)?),
                _ => check_key(line)?,
            }
        }
        match extents.is_empty() {
            true => Err("its descriptor names no extent".into()),
            false => Ok(Descriptor { extents }),
        }
    }
}

/// Refuses keys that change what the data mean.
fn check_key(line: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(line);
    let Some((key, value)) = text.split_once('=') else { return Ok(()) };
    let value = value.trim().trim_matches('"');
    match key.trim().to_ascii_lowercase().as_str() {
        "parentcid" if !value.eq_ignore_ascii_case(NO_PARENT) => Err(
            "it is a snapshot that stands on another image: consolidate it, or qemu-img convert \
             makes a whole one"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Takes a line like `RW 2048 FLAT "disk-flat.vmdk" 0` apart.
fn extent(line: &[u8]) -> Result<Extent, String> {
    let shown = || format!("the extent {:?}", String::from_utf8_lossy(line));
    let wrong = |text: &str| format!("{} {text}", shown());
    let (head, name, tail) = match line.iter().position(|byte| *byte == b'"') {
        None => (line, None, &b""[..]),
        Some(start) => {
            let rest = &line[start + 1..];
            let end = rest.iter().position(|byte| *byte == b'"');
            let end = end.ok_or_else(|| wrong("has a quote that is not closed"))?;
            (&line[..start], Some(&rest[..end]), &rest[end + 1..])
        }
    };
    let head = String::from_utf8_lossy(head);
    let [access, sectors, kind] = head.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
        return Err(wrong("is not one of access, sectors, kind and file"));
    };
    let sectors: u64 = sectors
        .parse()
        .ok()
        .filter(|sectors| *sectors > 0)
        .ok_or_else(|| wrong("has no length"))?;
    if access == "NOACCESS" {
        return Err(wrong("must not be read"));
    }
    let tail = String::from_utf8_lossy(tail);
    let offset = match tail.split_ascii_whitespace().next() {
        None if kind == "FLAT" => return Err(wrong("has no offset")),
        None => 0,
        Some(number) => number
            .parse::<u64>()
            .ok()
            .and_then(|sectors| sectors.checked_mul(512))
            .ok_or_else(|| wrong("has an offset that is no number of sectors"))?,
    };
    let file = || match name {
        Some(name) if !name.is_empty() => Ok(PathBuf::from(OsStr::from_bytes(name))),
        _ => Err(wrong("names no file")),
    };
    let kind = match kind {
        "FLAT" | "VMFS" => Kind::Flat { file: file()?, offset },
        "ZERO" => Kind::Zero,
        "SPARSE" | "VMFSSPARSE" | "SESPARSE" => return Err(sparse(&shown())),
        _ => return Err(wrong("is of a kind that is not known: FLAT, VMFS and ZERO are")),
    };
    Ok(Extent { sectors, kind })
}

fn sparse(what: &str) -> String {
    format!(
        "{what} is sparse, and only flat ones are read: \
         qemu-img convert -O vmdk -o subformat=monolithicFlat makes one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(sectors: u64, file: &[u8], offset: u64) -> Extent {
        let file = PathBuf::from(OsStr::from_bytes(file));
        Extent { sectors, kind: Kind::Flat { file, offset } }
    }

    fn parse(lines: &[u8]) -> Result<Vec<Extent>, String> {
        let text = [b"# Disk DescriptorFile\r\nversion=1\r\n", lines].concat();
        Descriptor::parse(&text).map(|descriptor| descriptor.extents)
    }

    #[test]
    fn descriptor_of_vmware_is_read() {
        let keys = b"encoding=\"windows-1252\"\nCID=fffffffe\nparentCID=ffffffff\n\
            isNativeSnapshot=\"no\"\ncreateType=\"vmfs\"\nchangeTrackPath=\"a-ctk.vmdk\"\n\
            ddb.adapterType = \"lsilogic\"\n";
        let lines = [
            &keys[..],
            b"RW 2048 VMFS \"b\xfcro-flat.vmdk\"\nRDONLY 8 FLAT \"two\" 16\nRW 4 ZERO\n",
        ]
        .concat();
        let zero = Extent { sectors: 4, kind: Kind::Zero };
        let want = [flat(2048, b"b\xfcro-flat.vmdk", 0), flat(8, b"two", 8192), zero];
        assert_eq!(parse(&lines).unwrap(), want);
    }

    #[test]
    fn descriptor_that_cannot_be_served_says_why() {
        for (lines, part) in [
            (&b""[..], "no extent"),
            (b"RW 8 SPARSE \"a\"", "is sparse"),
            (b"RW 8 VMFSRDM \"a\"", "not known"),
            (b"RW 0 FLAT \"a\" 0", "no length"),
            (b"RW 8 FLAT \"a\"", "no offset"),
            (b"RW 8 FLAT \"a 0", "not closed"),
            (b"RW 8 FLAT", "no offset"),
            (b"RW 8 VMFS", "no file"),
            (b"RW 8 FLAT \"a\" 99999999999999999999", "offset"),
            (b"NOACCESS 8 FLAT \"a\" 0", "must not be read"),
            (b"parentCID=0a0b0c0d\nRW 8 FLAT \"a\" 0", "snapshot"),
        ] {
            let wrong = parse(lines).unwrap_err();
            assert!(wrong.contains(part), "{wrong}");
        }
        assert!(Descriptor::parse(b"KDMV").unwrap_err().contains("sparse"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"RW ", &bytes[..]].concat());
        }
    }
}

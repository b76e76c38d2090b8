//! Numbers and names of virtual disks (docs/man/xen-vbd-interface.7).

use alloc::format;
use alloc::string::String;

/// Major number of `xvd` disks, and the flag of numbers with room for many disks and partitions.
const XVD: u32 = 202 << 8;
const EXTENDED: u32 = 1 << 28;
const SD: u32 = 8 << 8;
const HD: [u32; 2] = [3 << 8, 22 << 8];

/// Returns the name of a virtual disk: `xvda`, `xvdb3`, `sda`, `hdc1`; for a number of another
/// kind, `vbd` and the number.
pub fn name(vdev: u32) -> String {
    let major = vdev & !0xff;
    let low = vdev & 0xff;
    if vdev >> 28 == 1 {
        return spell("xvd", (vdev & !EXTENDED) >> 8, low);
    }
    match major {
        XVD => spell("xvd", low >> 4, low & 15),
        SD => spell("sd", low >> 4, low & 15),
        _ => match HD.iter().position(|&hd| hd == major) {
            Some(pair) if low >> 6 < 2 => spell("hd", pair as u32 * 2 + (low >> 6), low & 63),
            _ => format!("vbd{vdev}"),
        },
    }
}

/// Parses the name of a virtual disk: `xvda`, `sda1`, `vbd51712` or `51712`; the opposite of
/// [`name`].
pub fn parse(name: &str) -> Option<u32> {
    if let Ok(number) = name.strip_prefix("vbd").unwrap_or(name).parse() {
        return Some(number);
    }
    let (kind, rest) =
        ["xvd", "sd", "hd"].iter().find_map(|kind| Some((*kind, name.strip_prefix(kind)?)))?;
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let partition = match rest.strip_prefix(letters)? {
        "" => 0,
        digits => digits.parse::<u32>().ok().filter(|&n| n > 0 && !digits.starts_with('0'))?,
    };
    let disk = disk(letters)?;
    match kind {
        "xvd" if disk < 16 && partition < 16 => Some(XVD | disk << 4 | partition),
        "xvd" if disk < 1 << 20 && partition < 256 => Some(EXTENDED | disk << 8 | partition),
        "sd" if disk < 16 && partition < 16 => Some(SD | disk << 4 | partition),
        "hd" if disk < 4 && partition < 64 => {
            Some(HD[disk as usize / 2] | ((disk % 2) << 6) | partition)
        }
        _ => None,
    }
}

fn spell(kind: &str, disk: u32, partition: u32) -> String {
    let mut letters = String::new();
    let mut rest = disk + 1;
    while rest > 0 {
        letters.insert(0, (b'a' + ((rest - 1) % 26) as u8).into());
        rest = (rest - 1) / 26;
    }
    match partition {
        0 => format!("{kind}{letters}"),
        partition => format!("{kind}{letters}{partition}"),
    }
}

/// Parses the letters of a disk, which count a to z, then aa, ab and so on, from 0.
fn disk(letters: &str) -> Option<u32> {
    let mut number: u32 = 0;
    for letter in letters.bytes() {
        if !letter.is_ascii_lowercase() {
            return None;
        }
        number = number.checked_mul(26)?.checked_add(u32::from(letter - b'a') + 1)?;
    }
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_toolstack() {
        for (number, text) in [
            (51712, "xvda"),
            (51728, "xvdb"),
            (51713, "xvda1"),
            (51712 + 15 * 16, "xvdp"),
            (1 << 28 | 16 << 8, "xvdq"),
            (1 << 28 | 26 << 8 | 3, "xvdaa3"),
            (2048, "sda"),
            (2065, "sdb1"),
            (768, "hda"),
            (832, "hdb"),
            (5632, "hdc"),
            (5697, "hdd1"),
        ] {
            assert_eq!(name(number), text);
            assert_eq!(parse(text), Some(number), "{text}");
        }
        assert_eq!(name(7), "vbd7");
        assert_eq!(parse("51712"), Some(51712));
        for wrong in
            ["", "xvd", "xvdA", "xvda0", "xvda01", "hde", "sdz9", "da1", "xvdzzzzzzzzzz", "xvda-1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn name_parses_to_a_number_of_that_name(number: u32) {
            prop_assert_eq!(parse(&name(number)).map(name), Some(name(number)));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "[xsh]?[vbd]{0,3}[a-z]{0,12}[0-9]{0,12}|.*") {
            if let Some(number) = parse(&text) {
                prop_assert_eq!(parse(&name(number)).map(name), Some(name(number)));
            }
        }
    }
}

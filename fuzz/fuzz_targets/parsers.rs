//! All parsers of one string or one slot of bytes: they take or refuse, and what they take can be
//! written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_blk::protocol::wire::{self, Abi};
use xen_blk::protocol::{Units, vdev};

fuzz_target!(|input: &[u8]| {
    let Some((&which, rest)) = input.split_first() else { return };
    match which % 4 {
        0 => {
            let layout = if which & 4 == 0 { Abi::X86_64 } else { Abi::X86_32 };
            let slot = layout.slot();
            if rest.len() >= slot {
                let _ = wire::decode(layout, &rest[..slot]);
            }
        }
        1 => {
            if let Ok(segments) = wire::segments(rest) {
                // The list may have anything in its padding.
                let list = wire::encode_segments(&segments);
                assert_eq!(list.len(), rest.len() / 8 * 8);
                assert_eq!(wire::segments(&list), Ok(segments));
            }
        }
        2 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            if let Some(number) = vdev::parse(text) {
                assert_eq!(vdev::parse(&vdev::name(number)), Some(number), "{text}");
            }
            if let Some(units) = Units::from_name(text) {
                assert_eq!(units.name(), Some(text));
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let _ = xen_store::path::check(text);
            if let Some((name, value)) = text.split_once('=') {
                let _ = xen_exercise::Plan::default().set(name, value);
            }
        }
    }
});

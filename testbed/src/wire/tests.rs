//! The codec: what is sent arrives, in whatever pieces; rubbish is refused.

use super::*;
use proptest::prelude::*;

fn message() -> impl Strategy<Value = Message> {
    let data = || proptest::collection::vec(any::<u8>(), 0..300);
    let word = "[^\0]{0,12}";
    let request = (
        proptest::collection::vec(word, 0..5),
        word,
        proptest::collection::vec(("[A-Z]{1,5}", word), 0..3),
    );
    prop_oneof![
        Just(Message::Hello),
        Just(Message::StdinEnd),
        data().prop_map(Message::Stdin),
        data().prop_map(Message::Stdout),
        data().prop_map(Message::Stderr),
        any::<i32>().prop_map(Message::Signal),
        any::<i32>().prop_map(|code| Message::Exit(Status::Code(code))),
        any::<i32>().prop_map(|number| Message::Exit(Status::Signal(number))),
        ".{0,40}".prop_map(Message::Failed),
        (request, any::<bool>()).prop_map(|((argv, cwd, env), terminal)| Message::Exec(Request {
            argv,
            cwd,
            env,
            terminal
        })),
    ]
}

fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Malformed> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(frame) = decoder.frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_survive_any_cutting(messages in proptest::collection::vec((any::<u32>(), message()), 0..8), piece in 1usize..64) {
        let frames: Vec<_> = messages.into_iter().map(|(id, message)| Frame { id, message }).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        prop_assert_eq!(decoded(&bytes, piece).unwrap(), frames);
    }

    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..64) {
        let _ = decoded(&bytes, piece);
    }

    #[test]
    fn a_flipped_byte_never_panics(id in any::<u32>(), message in message(), at in any::<prop::sample::Index>(), bits in 1u8..) {
        let mut bytes = Frame { id, message }.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let _ = decoded(&bytes, 7);
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_at_once() {
    let mut bytes = Frame { id: 1, message: Message::StdinEnd }.encode();
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decoded(&bytes, 12), Err(Malformed("too long")));
}

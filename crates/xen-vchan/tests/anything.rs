//! Whatever a peer does, in either role: the end under attack goes on or ends its connection, and
//! nothing else.

mod common;
#[path = "common/play.rs"]
mod play;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_peer_does_harm(script in prop::collection::vec(any::<u8>(), 0..400)) {
        play::play(&script);
    }
}

/// A packet that the end of the peer's output cuts off is refused, and the connection stays.
#[test]
fn output_ends_inside_a_packet() {
    play::play(&[
        71, 43, 155, 128, 128, 0, 255, 44, 64, 0, 66, 0, 27, 0, 0, 0, 0, 0, 207, 0, 0, 0, 0, 0, 0,
        20, 0, 0, 0, 0, 0, 254, 120,
    ]);
}

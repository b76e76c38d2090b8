//! Whatever a peer does, in either role: the end under attack goes on or ends its connection, and nothing else.

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

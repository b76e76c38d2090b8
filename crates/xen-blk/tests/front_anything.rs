//! Whatever a backend does: the frontend goes on or ends its disk, and nothing else.

mod common;
#[path = "common/play.rs"]
mod play;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_backend_does_no_harm(script in prop::collection::vec(any::<u8>(), 0..300)) {
        play::play(&script);
    }
}

//! Whatever many clients do at a time, the server goes on, and serves an honest one.

mod common;
#[path = "common/crowd.rs"]
mod crowd;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_crowd_hinders_the_next_client(script in prop::collection::vec(any::<u8>(), 0..300)) {
        crowd::play(&script);
    }
}

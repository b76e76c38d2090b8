//! The structures of C's header, whose numbers a C program asserts where that header is.

use xenvchan::layout::{BLOCKING, IS_SERVER, NUMBERS, SERVER_PERSIST};

/// Reads the assertions of the C program: `IS(what, number);`.
fn asserted() -> Vec<(&'static str, usize)> {
    include_str!("../../../testbed/peers/vchan-abi.c")
        .lines()
        .filter_map(|line| line.strip_prefix("IS(")?.strip_suffix(");")?.rsplit_once(", "))
        .map(|(what, number)| (what, number.parse().unwrap()))
        .collect()
}

#[test]
fn structures_are_those_that_the_c_program_asserts() {
    assert_eq!(asserted(), NUMBERS);
}

#[test]
fn flags_are_in_the_order_of_the_header() {
    assert_eq!((IS_SERVER, SERVER_PERSIST, BLOCKING), (1, 2, 4));
}

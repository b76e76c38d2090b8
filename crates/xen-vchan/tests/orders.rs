//! The sizes of rings.

use proptest::prelude::*;
use xen_vchan::{Order, OrderClash, Orders};

fn order(order: u16) -> Order {
    Order::new(order).unwrap()
}

#[test]
fn there_are_orders_from_10_to_20() {
    assert_eq!(
        (0..=u16::MAX).filter_map(Order::new).collect::<Vec<_>>(),
        (10..=20).map(order).collect::<Vec<_>>()
    );
    assert_eq!((order(10).bytes(), order(10).pages()), (1024, 0));
    assert_eq!((order(11).bytes(), order(11).pages()), (2048, 0));
    assert_eq!((order(12).bytes(), order(12).pages()), (4096, 1));
    assert_eq!((order(20).bytes(), order(20).pages()), (1 << 20, 256));
}

proptest! {
    #[test]
    fn the_smallest_ring_that_is_large_enough(bytes in 0usize..=(1 << 20)) {
        let found = Order::for_size(bytes).unwrap();
        prop_assert!(found.bytes() as usize >= bytes);
        prop_assert!(found == Order::MIN || (found.bytes() as usize) < 2 * bytes);
    }

    #[test]
    fn rings_for_sizes_stand_beside_each_other(left in 0usize..=(1 << 20), right in 0usize..=(1 << 20)) {
        let found = Orders::for_sizes(left, right).unwrap();
        prop_assert_eq!(Orders::new(found.left(), found.right()), Ok(found));
        prop_assert!(found.left().bytes() as usize >= left && found.right().bytes() as usize >= right);
    }
}

#[test]
fn no_ring_holds_more_than_a_mebibyte() {
    assert_eq!(Order::for_size((1 << 20) + 1), None);
    assert_eq!(Order::for_size(usize::MAX), None);
    assert_eq!(Orders::for_sizes(1, (1 << 20) + 1), None);
}

#[test]
fn sizes_are_chosen_as_libxenvchan_chooses_them() {
    for ((left, right), expected) in [
        ((0, 0), (10, 11)),
        ((1024, 2048), (10, 11)),
        ((1025, 1024), (11, 10)),
        ((2048, 1), (11, 10)),
        ((2048, 2048), (11, 12)),
        ((1024, 4097), (11, 13)),
        ((1 << 20, 100), (20, 11)),
        ((5000, 5000), (13, 13)),
        ((4096, 8192), (12, 13)),
    ] {
        let found = Orders::for_sizes(left, right).unwrap();
        assert_eq!(
            (found.left(), found.right()),
            (order(expected.0), order(expected.1)),
            "{left} and {right} bytes"
        );
    }
}

#[test]
fn rings_that_would_overlap_are_told_apart() {
    assert_eq!(Orders::new(order(10), order(10)), Err(OrderClash::SamePlace(order(10))));
    assert_eq!(Orders::new(order(11), order(11)), Err(OrderClash::SamePlace(order(11))));
    let too_long = OrderClash::ListTooLong { small: order(10), large: order(20) };
    assert_eq!(Orders::new(order(10), order(20)), Err(too_long));
    assert_eq!(Orders::new(order(20), order(10)), Err(too_long));
    assert!(Orders::new(order(19), order(10)).is_ok());
    assert!(Orders::new(order(20), order(11)).is_ok());
    assert!(Orders::new(order(20), order(20)).is_ok());
}

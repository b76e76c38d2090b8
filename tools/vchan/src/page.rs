//! A vchan's shared page (io/libxenvchan.h), read once and taken apart. Nothing of it is trusted;
//! what cannot be is said to be so.

use crate::json::Json;
use xen_abi::vchan::{GRANTS, Indices, Interface, Live, NOTIFY_READ, NOTIFY_WRITE};
use xen_platform::{PAGE_SIZE, SharedMem};
use xen_vchan::{Order, Orders};
use zerocopy::FromBytes;

/// A private copy of the page.
pub(crate) struct Page {
    bytes: Vec<u8>,
    pub head: Interface,
}

/// State of one of the two rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    pub order: u16,
    pub indices: Indices,
    /// Its size in bytes; `None` if there are no rings of this order.
    pub size: Option<u32>,
    /// Bytes in it; `None` if the indices are further apart than the ring is large, or its size is
    /// not known.
    pub used: Option<u32>,
}

impl Page {
    /// Copies the page.
    pub fn copy(page: &impl SharedMem) -> Page {
        let mut bytes = vec![0; page.len().min(PAGE_SIZE)];
        page.read(0, &mut bytes);
        Page::new(bytes)
    }

    /// Panics if the bytes are less than the head.
    fn new(bytes: Vec<u8>) -> Page {
        let (head, _) =
            Interface::read_from_prefix(&bytes).expect("a page is larger than its head");
        Page { bytes, head }
    }

    pub fn left(&self) -> Ring {
        Ring::new(self.head.left_order, self.head.left)
    }

    pub fn right(&self) -> Ring {
        Ring::new(self.head.right_order, self.head.right)
    }

    /// Returns the state of the connection.
    pub fn state(&self) -> &'static str {
        match (self.head.srv_live, self.head.cli_live) {
            (Live::CONNECTED, Live::NOT_YET) => "waiting",
            (Live::CONNECTED, Live::CONNECTED) => "connected",
            (Live::CONNECTED, Live::EXITED) => "client left",
            (Live::EXITED, Live::NOT_YET | Live::CONNECTED | Live::EXITED) => "server left",
            _ => "broken",
        }
    }

    /// Returns true if the rings can stand beside each other, and if not why.
    pub fn orders(&self) -> Result<Orders, String> {
        let order = |side: &str, order: u16| {
            Order::new(order)
                .ok_or_else(|| format!("the {side} ring's order {order} is not between 10 and 20"))
        };
        let (left, right) =
            (order("left", self.head.left_order)?, order("right", self.head.right_order)?);
        Orders::new(left, right).map_err(|clash| clash.to_string())
    }

    /// The grants of the left and of the right ring; none if the orders cannot be.
    pub fn grants(&self) -> (Vec<u32>, Vec<u32>) {
        let Ok(orders) = self.orders() else { return (Vec::new(), Vec::new()) };
        let mut all = self.bytes[GRANTS..]
            .chunks_exact(4)
            .map(|raw| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]));
        let left = all.by_ref().take(orders.left().pages()).collect();
        (left, all.take(orders.right().pages()).collect())
    }

    /// The page's bytes in front of the rings: the head and the list of grants.
    pub fn used(&self) -> &[u8] {
        let (left, right) = self.grants();
        &self.bytes[..GRANTS + 4 * (left.len() + right.len())]
    }
}

impl Ring {
    fn new(order: u16, indices: Indices) -> Ring {
        let size = Order::new(order).map(Order::bytes);
        let used = indices.prod.wrapping_sub(indices.cons);
        Ring { order, indices, size, used: size.filter(|size| used <= *size).map(|_| used) }
    }

    /// Bytes in it and its size, as people read them.
    pub fn fill(self) -> String {
        let known = |number: Option<u32>| {
            number.map_or_else(|| "?".to_string(), |number| number.to_string())
        };
        format!("{}/{}", known(self.used), known(self.size))
    }

    pub fn to_json(self, grants: Option<Vec<u32>>) -> Json {
        let Ring { order, indices, size, used } = self;
        let mut members = vec![
            ("order", Json::from(u32::from(order))),
            ("size", size.into()),
            ("used", used.into()),
            ("prod", indices.prod.into()),
            ("cons", indices.cons.into()),
        ];
        if let Some(grants) = grants {
            members.push(("grants", grants.into_iter().collect()));
        }
        Json::Object(members)
    }
}

/// A live byte in words.
pub(crate) fn live(live: Live) -> String {
    match live {
        Live::EXITED => "left".to_string(),
        Live::CONNECTED => "there".to_string(),
        Live::NOT_YET => "not there yet".to_string(),
        Live(value) => format!("impossible value {value}"),
    }
}

/// Returns the events that a notify byte asks for.
pub(crate) fn wishes(bits: u8) -> Vec<&'static str> {
    let names = [
        (NOTIFY_WRITE, "writes"),
        (NOTIFY_READ, "reads"),
        (!(NOTIFY_WRITE | NOTIFY_READ), "unknown bits"),
    ];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn page(head: Interface, grants: &[u32]) -> Page {
        let mut bytes = [head.as_bytes(), grants.as_bytes()].concat();
        bytes.resize(PAGE_SIZE, 0xaa);
        Page::new(bytes)
    }

    const HEAD: Interface = Interface {
        left: Indices { cons: 0xffff_fff0, prod: 0x10 },
        right: Indices { cons: 5, prod: 5 },
        left_order: 13,
        right_order: 12,
        cli_live: Live::CONNECTED,
        srv_live: Live::CONNECTED,
        cli_notify: NOTIFY_WRITE,
        srv_notify: NOTIFY_WRITE | NOTIFY_READ,
    };

    #[test]
    fn what_a_good_page_says() {
        let page = page(HEAD, &[9, 10, 11]);
        assert_eq!((page.left().fill(), page.right().fill()), ("32/8192".into(), "0/4096".into()));
        assert_eq!(page.grants(), (vec![9, 10], vec![11]));
        assert_eq!((page.used().len(), page.state()), (36, "connected"));
        assert_eq!(
            (wishes(page.head.cli_notify), wishes(page.head.srv_notify)),
            (vec!["writes"], vec!["writes", "reads"])
        );
    }

    #[test]
    fn what_cannot_be_is_said_to_be_so() {
        let bad =
            page(Interface { left: Indices { cons: 1, prod: 0 }, right_order: 9, ..HEAD }, &[]);
        assert_eq!((bad.left().fill(), bad.right().fill()), ("?/8192".into(), "?/?".into()));
        assert_eq!(bad.orders().unwrap_err(), "the right ring's order 9 is not between 10 and 20");
        assert_eq!(bad.grants(), (vec![], vec![]));
        let states = [(2, 1), (1, 1), (0, 1), (1, 0), (3, 1), (1, 7)].map(|(cli, srv)| {
            page(Interface { cli_live: Live(cli), srv_live: Live(srv), ..HEAD }, &[]).state()
        });
        assert_eq!(
            states,
            ["waiting", "connected", "client left", "server left", "broken", "broken"]
        );
        assert_eq!(live(Live(7)), "impossible value 7");
    }

    proptest! {
        #[test]
        fn no_page_is_too_strange(
            head in proptest::array::uniform24(any::<u8>()),
            orders in (8u16..23, 8u16..23),
            rest: u8,
        ) {
            let mut bytes = vec![rest; PAGE_SIZE];
            bytes[..24].copy_from_slice(&head);
            bytes[16..20].copy_from_slice([orders.0, orders.1].as_bytes());
            let page = Page::new(bytes);
            let used = page.used().len();
            prop_assert!((24..=PAGE_SIZE).contains(&used));
            for ring in [page.left(), page.right()] {
                prop_assert!(ring.used.is_none_or(|used| used <= ring.size.unwrap()));
            }
        }
    }
}

//! From the keys to a page and rings that were checked.

use super::{Failure, Obstacle};
use crate::info::{Info, Role};
use crate::keys::Values;
use crate::memory::{Memory, Pages};
use crate::rings::{Rings, half_close};
use crate::{Error, Order, Orders, PeerError, Side, Stale};
use alloc::vec;
use alloc::vec::Vec;
use xen_abi::vchan::{self, GRANTS, Interface};
use xen_platform::{Access, Channel, DomId, GrantRef, IndexMemory, Platform, SharedMem};
use zerocopy::IntoBytes;

/// Maps pages of the server. A refusal may be of keys that are out of date by now.
fn map<P: Platform>(
    platform: &P,
    peer: DomId,
    refs: &[GrantRef],
    access: Access,
) -> Result<P::Map, Failure<P::Error>> {
    platform.map(peer, refs, access).map_err(|error| stale::<P>(Stale::Map, error))
}

fn stale<P: Platform>(why: fn(P::Error) -> Stale<P::Error>, error: P::Error) -> Failure<P::Error> {
    match P::is_local(&error) {
        // No server can cure it, so it is not waited out.
        true => Failure::ForGood(Error::Platform(error)),
        false => Failure::ForNow(Obstacle::Stale(why(error))),
    }
}

/// The result of an attempt that succeeded.
pub(super) struct Attached<P: Platform> {
    pub info: Info,
    /// The page's head and list of grants, as they were found.
    pub first_page: Vec<u8>,
    pub channel: P::Channel,
    pub rings: Rings<P>,
    /// The server can half-close.
    pub half_close: bool,
}

/// Maps what the keys lead to, and checks it. `claim` is the port if it is bound already, which
/// says that no other client can take the channel. The server cannot tell that it is bound, as long
/// as it is when `cli_live` says so. (libxenvchan binds first, too.)
pub(super) fn attach<P: Platform>(
    platform: &P,
    peer: DomId,
    values: Values,
    claim: Option<P::Channel>,
) -> Result<Attached<P>, Failure<P::Error>> {
    let control = map(platform, peer, &[values.control_ref], Access::ReadWrite)?;
    let head = read_head(&control);
    check_live(&head)?;
    let orders = check_orders(&head)?;
    let refs = read_refs(&control, orders);
    let first_page = [head.as_bytes(), refs.as_bytes()].concat();
    let (left_refs, right_refs) = refs.split_at(orders.left().pages());
    let typed = |refs: &[u32]| -> Vec<_> { refs.iter().copied().map(GrantRef).collect() };
    let (left_refs, right_refs) = (typed(left_refs), typed(right_refs));
    let ring = |refs: &[GrantRef], access| match refs {
        [] => Ok(None),
        refs => map(platform, peer, refs, access).map(Memory::Peer).map(Some),
    };
    let left = ring(&left_refs, Access::ReadWrite)?;
    let right = ring(&right_refs, Access::ReadOnly)?;

    let rings =
        Rings::client(Pages { control: Memory::Peer(control), left, right }, orders, &head)?;

    let channel = match claim {
        Some(channel) => channel,
        None => {
            platform.connect(peer, values.port).map_err(|error| stale::<P>(Stale::Bind, error))?
        }
    };
    rings
        .announce_death(platform, &channel)
        .map_err(|error| Failure::ForGood(Error::Platform(error)))?;
    let info = Info {
        peer,
        role: Role::Client,
        control_ref: values.control_ref,
        left_refs,
        right_refs,
        port: values.port,
        local_port: channel.port(),
        orders,
    };
    Ok(Attached { info, first_page, channel, rings, half_close: can_half_close(&head) })
}

/// Reads the page's head, each field once and in one access: from here on only the copy is looked
/// at.
fn read_head(page: &impl IndexMemory) -> Interface {
    const WORDS: usize = size_of::<Interface>() / 4;
    let words: [u32; WORDS] = core::array::from_fn(|n| page.load(4 * n));
    zerocopy::transmute!(words)
}

/// True if the page is of a server that can half-close: one of this crate.
fn can_half_close(head: &Interface) -> bool {
    head.cli_notify & half_close::CAPABLE != 0
}

/// Checks that the page belongs to a server that waits for a client.
///
/// A server of libxenvchan may serve one client after another with the same page
/// (vchan-socket-proxy does): there, a client that has left is no obstacle. A server of this crate
/// has a page for each.
fn check_live<E>(head: &Interface) -> Result<(), Failure<E>> {
    match head.srv_live {
        vchan::Live::CONNECTED => {}
        vchan::Live::EXITED | vchan::Live::NOT_YET => {
            return Err(Failure::ForNow(Obstacle::Stale(Stale::NoServer)));
        }
        vchan::Live(value) => return Err(PeerError::Live { who: Role::Server, value }.into()),
    }
    match head.cli_live {
        vchan::Live::NOT_YET => Ok(()),
        vchan::Live::CONNECTED => Err(Failure::ForNow(Obstacle::Busy)),
        vchan::Live::EXITED if !can_half_close(head) => Ok(()),
        vchan::Live::EXITED => Err(Failure::ForNow(Obstacle::Stale(Stale::Used))),
        vchan::Live(value) => Err(PeerError::Live { who: Role::Client, value }.into()),
    }
}

fn check_orders(head: &Interface) -> Result<Orders, PeerError> {
    let order = |side, order: u16| Order::new(order).ok_or(PeerError::Order { side, order });
    Ok(Orders::new(order(Side::Left, head.left_order)?, order(Side::Right, head.right_order)?)?)
}

/// Reads the grants of the left ring and then those of the right.
fn read_refs(page: &impl SharedMem, orders: Orders) -> Vec<u32> {
    let mut refs = vec![0u32; orders.left().pages() + orders.right().pages()];
    page.read(GRANTS, refs.as_mut_bytes());
    refs
}

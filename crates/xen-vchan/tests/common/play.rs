//! A peer that does anything at all, by a script of bytes, to either role. The body of the fuzz
//! target `vchan_peer` and of the property test in `tests/anything.rs`.

use crate::common::{
    Bench, CLI_LIVE, DOM0, EVENT_CHANNEL, Error, GUEST, Host, LEFT_CONS, LEFT_PROD, RIGHT_CONS,
    RIGHT_PROD, RING_REF, RawClient, RawServer, SRV_LIVE, good_head, pair, server,
};
use embedded_io_async::{Read, Write};
use std::future::Future;
use std::time::Duration;
use xen_platform::{Channel as _, Clock, SharedMem, deadline, sleep};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Channel, Domain};
use xen_vchan::{Connection, Live, Offer, Reader, Writer};

/// The largest buffer that is used, in bytes: more than the small rings hold.
const BUFFER: usize = 5000;

/// Steps still to be played. Bytes beyond its end are zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn len(&mut self) -> usize {
        usize::from(self.word()) % (BUFFER + 1)
    }
}

/// The end that keeps to no rules.
struct Peer {
    process: Domain,
    page: Box<dyn SharedMem>,
    channel: Option<Channel>,
    xs: Xenstored,
}

impl Peer {
    fn notify(&self) {
        if let Some(channel) = &self.channel {
            channel.notify();
        }
    }

    fn act(&mut self, script: &mut Script<'_>) {
        match script.byte() % 10 {
            // An index moves on, as it should or too far; or back.
            0..=2 => {
                let at =
                    [LEFT_CONS, LEFT_PROD, RIGHT_CONS, RIGHT_PROD][usize::from(script.byte() % 4)];
                let step = i32::from(script.word() as i16) >> (script.byte() % 16);
                self.page.store(at, self.page.load(at).wrapping_add_signed(step));
                self.notify();
            }
            3 => self.page.store_u8(usize::from(script.word()) % 4096, script.byte()),
            4 => self
                .page
                .store_u8([CLI_LIVE, SRV_LIVE][usize::from(script.byte() % 2)], script.byte() % 4),
            5 => drop(self.page.fetch_or(22 + usize::from(script.byte() % 2), script.byte())),
            6 => self.notify(),
            7 => self.key(script),
            8 if script.byte() % 8 == 0 => self.channel = None,
            9 if script.byte() % 8 == 0 => self.process.kill_process(),
            _ => {}
        }
    }

    /// Changes a key in xenstore.
    fn key(&self, script: &mut Script<'_>) {
        let key = [RING_REF, EVENT_CHANNEL][usize::from(script.byte() % 2)];
        match script.byte() % 6 {
            0 if self.xs.get(key).is_some() => self.xs.remove(key),
            1 if self.xs.get(key).is_some() => self.xs.set_permissions(key, "n2 b0 b1"),
            2 => self.xs.set(key, [script.byte(), script.byte()]),
            _ => self.xs.set(key, (script.byte() % 32).to_string()),
        }
    }
}

/// The end under attack, which keeps to the rules.
struct Victim {
    domain: Domain,
    connection: Connection<Domain>,
    reader: Reader<Domain>,
    writer: Writer<Domain>,
    buffer: Vec<u8>,
}

impl Victim {
    fn new(domain: &Domain, connection: Connection<Domain>) -> Self {
        let (reader, writer) = connection.split();
        Victim { domain: domain.clone(), connection, reader, writer, buffer: vec![0; BUFFER] }
    }

    async fn act(&mut self, script: &mut Script<'_>) {
        let was = self.connection.state();
        let Victim { domain, connection, reader, writer, buffer } = self;
        let orders = connection.info().orders;
        let largest = orders.left().bytes().max(orders.right().bytes()) as usize;
        let len = script.len();
        let room = len.min(largest);
        let to = &mut buffer[..len];
        let soon = Some(domain.now() + Duration::from_secs(3));
        let act = script.byte() % 14;
        let failed = match act {
            0 => reader.try_read(to).inspect(|n| assert!(n.unwrap_or(0) <= room)).err(),
            1 => writer.try_write(to).inspect(|n| assert!(n.unwrap_or(0) <= room)).err(),
            2 => {
                reader.try_recv(to).inspect(|done| assert!(done.is_none() || len <= largest)).err()
            }
            3 => {
                writer.try_send(to).inspect(|done| assert!(done.is_none() || len <= largest)).err()
            }
            4 => reader.data_ready().inspect(|n| assert!(*n <= largest)).err(),
            5 => writer.space().inspect(|n| assert!(*n <= largest)).err(),
            6 => soon_or(
                deadline(domain, soon, reader.read(to))
                    .await
                    .map(|done| done.map(|n| assert!(n <= room))),
            ),
            7 => soon_or(
                deadline(domain, soon, writer.write(to))
                    .await
                    .map(|done| done.map(|n| assert!(n <= room))),
            ),
            8 => soon_or(deadline(domain, soon, reader.recv(to)).await),
            9 => soon_or(deadline(domain, soon, writer.send(to)).await),
            10 => soon_or(deadline(domain, soon, writer.drained()).await),
            11 => soon_or(deadline(domain, soon, writer.settled()).await),
            12 => soon_or(deadline(domain, soon, reader.next_event()).await.map(Ok)),
            _ => writer.idle().map(drop).err(),
        };
        let is = connection.state();
        match failed {
            None | Some(Error::Config(_)) => {}
            Some(Error::Peer(_)) => assert_eq!(is, Live::Broken),
            // The peer's output has ended before the packet did; the other direction goes on.
            Some(Error::Closed) if matches!(act, 2 | 8) && connection.can_half_close() => {}
            Some(Error::Closed | Error::Died(_)) => {
                assert!(matches!(is, Live::Left | Live::Died), "{is:?}")
            }
            Some(error) => panic!("{error}"),
        }
        assert!(
            was == Live::Connected || is == was || is == Live::Broken,
            "from {was:?} to {is:?}"
        );
        assert_eq!(connection.page().is_empty(), is == Live::Broken);
    }
}

/// The error of something that had its time.
fn soon_or(done: Result<Result<(), Error>, xen_platform::Elapsed>) -> Option<Error> {
    done.ok()?.err()
}

/// Plays the script: one byte for the role under attack, then acts of the peer alone while the ends
/// meet, then acts of both. Panics if the end under attack panics, hangs, leaks, or cannot serve or
/// be served afterwards.
pub fn play(script: &[u8]) {
    match script.split_first() {
        Some((role, script)) if role % 2 == 0 => against_server(script.to_vec()),
        Some((_, script)) => against_client(script.to_vec()),
        None => {}
    }
}

fn against_server(script: Vec<u8>) {
    let mut bench = Bench::new();
    let (guest, bad, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    let (spawner, xs) = (bench.sim.spawner(), bench.xs.clone());
    bench.run(async move {
        let mut script = Script(&script);
        let offer =
            Offer::publish(&guest.domain, &guest.store, &server(DOM0, (10, 12))).await.unwrap();
        let raw = RawClient::attach(&bad.domain, &offer);
        if script.byte() % 4 > 0 {
            raw.join();
        }
        let peer = Peer {
            process: raw.domain,
            page: Box::new(raw.page),
            channel: Some(raw.channel),
            xs: xs.clone(),
        };
        let soon = guest.in_secs(5);
        let process = guest.domain.clone();
        let accepting = async move { deadline(&process, soon, offer.accept()).await.ok()?.ok() };
        let meeting = spawner.spawn(&guest.domain, accepting);
        both_act(&guest.domain, &mut script, peer, meeting.join()).await;
        leaves_good_order(&guest, &next, &xs).await;
    });
}

fn against_client(script: Vec<u8>) {
    let mut bench = Bench::new();
    let (bad, guest, dom0) = (bench.sim.domain(1), bench.host(GUEST), bench.host(DOM0));
    let raw = RawServer::publish(&bench, &bad, good_head(12, 10));
    let (spawner, xs) = (bench.sim.spawner(), bench.xs.clone());
    bench.run(async move {
        let mut script = Script(&script);
        let peer = Peer {
            process: bad,
            page: Box::new(raw.page),
            channel: Some(raw.channel),
            xs: xs.clone(),
        };
        let host = dom0.clone();
        let connecting = async move { host.connect().await.ok() };
        let meeting = spawner.spawn(&dom0.domain, connecting);
        both_act(&dom0.domain, &mut script, peer, meeting.join()).await;
        leaves_good_order(&guest, &dom0, &xs).await;
        drop(raw.ring);
    });
}

/// The peer acts alone while the ends meet, and then between the acts of the end under attack.
async fn both_act(
    domain: &Domain,
    script: &mut Script<'_>,
    mut peer: Peer,
    meeting: impl Future<Output = Option<Connection<Domain>>>,
) {
    for _ in 0..script.byte() % 8 {
        peer.act(script);
        if script.byte() % 2 == 0 {
            sleep(domain, Duration::from_millis(1)).await;
        }
    }
    let Some(connection) = meeting.await else { return };
    let mut victim = Victim::new(domain, connection);
    while !script.0.is_empty() {
        peer.act(script);
        victim.act(script).await;
    }
    let Victim { connection, .. } = victim;
    connection.close().await.unwrap();
}

/// Whatever was done, the next two ends find each other and have a channel that works.
async fn leaves_good_order(guest: &Host, dom0: &Host, xs: &Xenstored) {
    let dir = format!("/local/domain/{GUEST}/data/vchan");
    if xs.get(&dir).is_some() {
        xs.remove(&dir);
    }
    let (server, client) = pair(guest, dom0, (12, 12)).await;
    for (from, to) in [(&server, &client), (&client, &server)] {
        from.split().1.send(b"in order").await.unwrap();
        let mut got = [0; 8];
        to.split().0.recv(&mut got).await.unwrap();
        assert_eq!(&got, b"in order");
    }
    client.close().await.unwrap();
    server.close().await.unwrap();
}

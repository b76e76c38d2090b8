//! The loop of a server: lets clients in, and serves several at a time.

use super::Service;
use super::door::Door;
use crate::ask::answered;
use crate::crowd::Crowd;
use crate::hexdump::hexdump;
use crate::{Code, Failure, Stop, domain};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use xen_platform::{DomId, Platform, Time, deadline};
use xen_store::Store;
use xen_vchan::{Connection, Error};

/// What a server waits for.
enum News<P: Platform> {
    /// A client has come, or could not.
    Came(Result<Connection<P>, Error<P::Error>>),
    /// None came in time.
    Nobody,
    /// A client was served.
    Left(Served),
}

/// How a session ended.
struct Served {
    peer: DomId,
    /// `None` if it was asked to stop.
    ended: Option<Result<(), Failure>>,
    closed: Result<(), Failure>,
}

/// Lets clients in until the only one has left, or `stop` asks to end, or there can be no more.
pub(super) async fn attend<P: Platform>(
    (platform, store): (&P, &Store),
    door: &mut Door<P>,
    service: &Service<'_>,
    stop: &Stop,
    say: &mut impl FnMut(&str),
    session: &impl AsyncFn(&Connection<P>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let tell = |text: Option<String>, say: &mut dyn FnMut(&str)| {
        text.filter(|_| service.verbose).iter().for_each(|text| say(text))
    };
    let most = if service.once { 1 } else { service.clients };
    let mut crowd = Crowd::new();
    // No channel could be made for one more client: that is tried again once another has left.
    let mut full = false;
    tell(door.describe(), say);
    loop {
        let until = service.timeout.filter(|_| crowd.len() == 0);
        let until = until.map(|seconds| platform.now() + Duration::from_secs(seconds));
        let free = !full && crowd.len() < most;
        let news = stop.or(next(platform, until, free.then_some(&mut *door), &mut crowd)).await;
        match news {
            None => return finish(&mut crowd).await,
            Some(News::Nobody) => return Err(Failure::new(Code::NoServer, "no client came in time: see --timeout")),
            Some(News::Came(Ok(connection))) => {
                let (peer, page) = (connection.info().peer, hexdump(connection.first_page()));
                tell(Some(format!("A client of domain {peer} has come. The shared page was:\n\n{page}")), say);
                crowd.add(serve_one(platform, connection, stop, session));
                tell(door.describe(), say);
            }
            Some(News::Came(Err(Error::Peer(error)))) if !service.once => say(&error.to_string()),
            Some(News::Came(Err(error @ Error::Died(_)))) => return Err(error.into()),
            Some(News::Came(Err(error))) if crowd.len() == 0 => return Err(error.into()),
            Some(News::Came(Err(error))) => {
                full = true;
                say(&format!("{error}; until a client has left, there is no place for another"));
            }
            Some(News::Left(Served { peer, ended, closed })) => {
                full = false;
                tell(Some(format!("The client of domain {peer} has left")), say);
                let Some(ended) = ended else { return closed.and(finish(&mut crowd).await) };
                if service.once {
                    return ended.and(closed);
                }
                closed?;
                if let Err(failure) = ended {
                    survive(platform, store, peer, &failure).await?;
                    say(&failure.to_string());
                }
            }
        }
    }
}

/// Waits for a client at the door, if it is given, and for one to leave.
async fn next<P: Platform>(
    platform: &P,
    until: Option<Time>,
    door: Option<&mut Door<P>>,
    crowd: &mut Crowd<'_, Served>,
) -> News<P> {
    let mut coming = pin!(async {
        match door {
            Some(door) => deadline(platform, until, door.accept()).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(served) = crowd.poll_next(cx) {
            return Poll::Ready(News::Left(served));
        }
        coming.as_mut().poll(cx).map(|came| came.map_or(News::Nobody, News::Came))
    })
    .await
}

/// A client's time, from its coming to its end or a request to stop.
async fn serve_one<P: Platform>(
    platform: &P,
    connection: Connection<P>,
    stop: &Stop,
    session: &impl AsyncFn(&Connection<P>) -> Result<(), Failure>,
) -> Served {
    let ended = stop.or(session(&connection)).await;
    let peer = connection.info().peer;
    Served { peer, ended, closed: answered(platform, connection.close()).await }
}

/// Waits for all sessions, which were asked to stop, to close their channels.
async fn finish(crowd: &mut Crowd<'_, Served>) -> Result<(), Failure> {
    let mut closed = Ok(());
    while crowd.len() > 0 {
        closed = closed.and(poll_fn(|cx| crowd.poll_next(cx)).await.closed);
    }
    closed
}

/// Whether there can be another client: not if the domain is gone.
async fn survive(platform: &impl Platform, store: &Store, peer: DomId, failure: &Failure) -> Result<(), Failure> {
    match failure.code == Code::Died && answered(platform, domain::is_gone(store, peer)).await? {
        true => Err(failure.clone()),
        false => Ok(()),
    }
}

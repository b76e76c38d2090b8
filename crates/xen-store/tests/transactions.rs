//! Transactions: all or nothing, again on conflict, undone when given up.

mod common;

use common::{Counting, DOM0, Host, ONE, poll_once, settle};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use xen_store::{Error, ErrorKind, Store};

async fn count_up(store: &Store) -> Result<u32, Error> {
    let count = store.read_number::<u32>("data/count").await? + 1;
    store.write("data/count", count.to_string().as_bytes()).await?;
    Ok(count)
}

#[test]
fn nothing_is_seen_before_the_commit() {
    let mut host = Host::new();
    let (store, other, daemon) = (host.client(ONE), host.client(DOM0), host.daemon.clone());
    host.run(async move {
        let mut watch = other.watch("/local/domain/1/data").await.unwrap();
        watch.next().await.unwrap();
        store
            .transaction(async |tx| {
                tx.write("data/a", b"1").await?;
                tx.write("data/b", b"2").await?;
                assert_eq!(tx.read("data/a").await?, b"1");
                assert!(store.read("data/a").await.unwrap_err().is_not_found());
                assert!(poll_once(pin!(watch.next())).is_pending());
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/a");
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/b");
        assert_eq!(store.read("data/b").await.unwrap(), b"2");
        assert_eq!(daemon.transactions(ONE), 0);
    });
}

#[test]
fn a_conflict_is_noticed_and_the_body_runs_again() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    daemon.set("/local/domain/1/data/count", "10");
    let runs = Cell::new(0);
    host.run(async move {
        let count = store
            .transaction(async |tx| {
                let count = count_up(tx).await?;
                runs.set(runs.get() + 1);
                if runs.get() == 1 {
                    daemon.set("/local/domain/1/data/count", "20");
                }
                Ok(count)
            })
            .await;
        assert_eq!((count.unwrap(), runs.get()), (21, 2));
        assert_eq!(daemon.get("/local/domain/1/data/count").unwrap(), b"21");
    });
}

#[test]
fn transactions_at_once_all_count() {
    let mut host = Host::new();
    host.daemon.set("/local/domain/1/data/count", "0");
    let process = host.sim.domain(1);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = host.client(ONE);
            host.sim.spawn(&process, async move { store.transaction(count_up).await.unwrap() })
        })
        .collect();
    let mut counts = host.run(async move {
        let mut counts = Vec::new();
        for task in tasks {
            counts.push(task.join().await);
        }
        counts
    });
    counts.sort();
    assert_eq!(counts, (1..=8).collect::<Vec<_>>());
}

#[test]
fn changes_of_other_nodes_do_not_conflict() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    daemon.set("/local/domain/1/data/count", "1");
    host.run(async move {
        let runs = Cell::new(0);
        let body = async |tx: &Store| {
            runs.set(runs.get() + 1);
            daemon.set("/elsewhere", "x");
            count_up(tx).await
        };
        assert_eq!(store.transaction(body).await.unwrap(), 2);
        assert_eq!(runs.get(), 1);
        assert_eq!(daemon.get("/elsewhere").unwrap(), b"x");
    });
}

#[test]
fn removal_and_creation_conflict() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let runs = Cell::new(0);
        let seen = store
            .transaction(async |tx| {
                runs.set(runs.get() + 1);
                let found = tx.read("data/flag").await.is_ok();
                if runs.get() == 1 {
                    daemon.set("/local/domain/1/data/flag", "");
                }
                Ok(found)
            })
            .await;
        assert_eq!((seen.unwrap(), runs.get()), (true, 2));
    });
}

#[test]
fn retries_are_bounded() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let runs = Cell::new(0);
        let body = async |tx: &Store| {
            runs.set(runs.get() + 1);
            tx.write("data/x", b"").await
        };
        daemon.fail_commits(3);
        store.transaction(body).await.unwrap();
        assert_eq!(runs.replace(0), 4);
        daemon.fail_commits(1000);
        assert_eq!(store.transaction(body).await.unwrap_err().kind, ErrorKind::Again);
        assert_eq!(runs.get(), 64);
        assert_eq!(daemon.transactions(ONE), 0);
    });
}

#[test]
fn a_transaction_is_ended_once() {
    let mut host = Host::new();
    let messages = Rc::new(Cell::new(0));
    let count = messages.clone();
    let (reader, inner) = host.daemon.connect(ONE);
    let (store, driver) = xen_store::connect(
        reader,
        Counting { inner, messages: 0, before: move |number| count.set(number) },
    );
    host.sim.spawn(&host.sim.domain(1), driver);
    host.run(async move {
        store.transaction(async |tx| tx.write("data/x", b"").await).await.unwrap();
        settle().await;
        assert_eq!(messages.get(), 3);
        store.transaction(async |tx| tx.read("data/missing").await).await.unwrap_err();
        settle().await;
        assert_eq!(messages.get(), 6);
    });
}

#[test]
fn a_failing_body_undoes_everything() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    let before = daemon.dump();
    host.run(async move {
        let failed = store.transaction(async |tx| {
            tx.write("data/x", b"").await?;
            tx.read("data/missing").await
        });
        assert!(failed.await.unwrap_err().is_not_found());
        settle().await;
        assert_eq!(daemon.dump(), before);
        assert_eq!(daemon.transactions(ONE), 0);
    });
}

#[test]
fn a_dropped_transaction_is_undone_at_any_point() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    let before = daemon.dump();
    host.run(async move {
        // Dropped while xenstored's answer to the start is on its way.
        daemon.hold_replies(ONE);
        {
            let mut work = pin!(store.transaction(count_up));
            assert!(poll_once(work.as_mut()).is_pending());
            settle().await;
            assert_eq!(daemon.transactions(ONE), 1);
        }
        daemon.send_held(ONE, |_| {});
        settle().await;
        assert_eq!(daemon.transactions(ONE), 0);

        // Dropped with the answer there but not yet taken, and within the body.
        for polls in 1..4 {
            let reached = Rc::new(Cell::new(0));
            let mut work = Box::pin(store.transaction(async |tx| {
                reached.set(1);
                tx.write("data/x", b"").await?;
                reached.set(2);
                std::future::pending::<Result<(), Error>>().await
            }));
            for _ in 0..polls {
                assert!(poll_once(work.as_mut()).is_pending());
                settle().await;
            }
            let expected = [0, 1, 2][polls - 1];
            assert_eq!(reached.get(), expected);
            assert_eq!(daemon.transactions(ONE), 1);
            drop(work);
            settle().await;
            assert_eq!(daemon.transactions(ONE), 0);
        }
        assert_eq!(daemon.dump(), before);
    });
}

#[test]
#[should_panic(expected = "transactions do not nest")]
fn transactions_do_not_nest() {
    let mut host = Host::new();
    let store = host.client(ONE);
    let nested =
        async move { store.transaction(async |tx| tx.transaction(async |_| Ok(())).await).await };
    host.run(nested).unwrap();
}

/// xenstored lets a guest have ten transactions open at a time.
#[test]
fn transactions_beyond_the_quota_wait_for_their_turn() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let works = (0..30).map(|number| {
            let store = store.clone();
            let work: xen_exec::Boxed<'_, _> = Box::pin(async move {
                store
                    .transaction(async |tx| {
                        settle().await;
                        tx.write(&format!("data/{number}"), b"x").await
                    })
                    .await
            });
            work
        });
        for done in xen_exec::join_all(works.collect()).await {
            done.unwrap();
        }
        for number in 0..30 {
            assert_eq!(store.read(&format!("data/{number}")).await.unwrap(), b"x");
        }
        assert_eq!(daemon.transactions(ONE), 0);
    });
}

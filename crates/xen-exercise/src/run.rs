//! Carrying out a plan.

use crate::cases::{Case, Context};
use crate::environment::{Device, Environment, Error};
use crate::log::{Json, Log};
use crate::plan::Plan;
use crate::random::Random;
use crate::stamp::Stamps;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

/// Outcome of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
    /// Tests that did not run because they are not permitted.
    pub skipped: u32,
}

/// Runs every test of `plan` on each of its disks, and reports the results: TAP version 14 with a
/// line of JSON for each test in a comment, and a summary below `data/report` in xenstore.
pub async fn run(env: &dyn Environment, plan: &Plan) -> Verdict {
    let mut names = plan.disks.clone();
    if names.is_empty() {
        names = env.disks().await.into_iter().map(xen_blk::protocol::vdev::name).collect();
    }
    env.print(format_args!(
        "TAP version 14\n1..{}\n# {{\"run\":{{\"version\":\"{}\",\"seed\":{},\"size\":{},\"loops\":{}}}}}\n",
        (names.len() * plan.tests.len()).max(1),
        env!("CARGO_PKG_VERSION"),
        plan.seed,
        plan.size,
        plan.loops
    ));
    let mut verdict = Verdict::default();
    if names.is_empty() {
        verdict.failed = 1;
        env.print(format_args!("not ok 1 - there is no disk\n"));
    }
    let mut runner = Runner { env, plan, verdict, names };
    for at in 0..runner.names.len() {
        runner.disk(at).await;
    }
    let verdict = runner.verdict;
    summarize(env, plan, verdict).await;
    verdict
}

async fn summarize(env: &dyn Environment, plan: &Plan, verdict: Verdict) {
    let Verdict { passed, failed, skipped } = verdict;
    env.print(format_args!(
        "# {passed} passed, {failed} failed, {skipped} skipped; seed {}\n",
        plan.seed
    ));
    for (key, value) in [("passed", passed), ("failed", failed), ("skipped", skipped)] {
        env.publish(key, &value.to_string()).await;
    }
    env.publish("seed", &plan.seed.to_string()).await;
    // Last: once it is there, the others are, too.
    env.publish("result", if failed == 0 { "pass" } else { "fail" }).await;
}

struct Runner<'a> {
    env: &'a dyn Environment,
    plan: &'a Plan,
    verdict: Verdict,
    names: Vec<String>,
}

impl Runner<'_> {
    /// All tests on the disk at that place of the list.
    async fn disk(&mut self, at: usize) {
        let (env, name) = (self.env, self.names[at].clone());
        if self.plan.may_destroy(&name) {
            env.print(format_args!(
                "# {name} WILL BE OVERWRITTEN, as blk.destroy={name} permits\n"
            ));
        }
        let mut device = None;
        for case in &self.plan.tests {
            let number = self.verdict.passed + self.verdict.failed + self.verdict.skipped + 1;
            match self.plan.forbids(case, &name) {
                Some(why) if self.plan.all => {
                    self.verdict.skipped += 1;
                    env.print(format_args!("ok {number} - {name} {} # SKIP {why}\n", case.name));
                }
                Some(why) => {
                    self.verdict.failed += 1;
                    env.print(format_args!("not ok {number} - {name} {}: {why}\n", case.name));
                }
                None => self.case(number, case, &name, &mut device).await,
            }
            env.flushed().await;
        }
        if let Some(device) = device
            && let Err(why) = device.close().await
        {
            env.print(format_args!("# {name}: closing it: {why}\n"));
        }
    }

    async fn case(
        &mut self,
        number: u32,
        case: &'static Case,
        name: &str,
        device: &mut Option<Rc<dyn Device>>,
    ) {
        let (env, plan) = (self.env, self.plan);
        let begun = env.now();
        let vdev = xen_blk::protocol::vdev::parse(name).unwrap_or(0);
        let mut cx = Context {
            env,
            plan,
            name,
            vdev,
            destroy: plan.may_destroy(name),
            log: RefCell::new(Log::new(env)),
            random: Random::new(plan.seed),
            stamps: Stamps::new(plan.seed),
            // Hundredths of a second since the start, and so more than those of all tests before.
            generation: 1 + begun.0 / 10_000_000 * 65_536,
            device: device.take(),
        };
        let outcome = cx.run(case).await;
        let summary = cx.works(outcome, format_args!("it ended early")).unwrap_or_default();
        *device = cx.device.take();
        if let Some(device) = device.as_ref().filter(|_| case.in_all) {
            cx.check_events(&**device);
        }
        let log = cx.log.into_inner();
        let ok = log.failed() == 0;
        *(if ok { &mut self.verdict.passed } else { &mut self.verdict.failed }) += 1;
        let ms = env.now().since(begun).as_millis() as u64;
        show(env, number, ok, name, case, &summary, ms, &log);
        if !ok {
            let again = plan.again(case, name).to_string();
            env.print(format_args!("  again: {again}\n  ...\n"));
            env.publish(&format!("{name}/{}", case.name), &again).await;
            // A connection that was used in a failing test says nothing about the next.
            if let Some(device) = device.take() {
                let _: Result<(), Error> = device.close().await;
            }
        }
    }
}

/// A test point, its details if it failed, and the JSON line.
#[expect(clippy::too_many_arguments, reason = "what a line shows")]
fn show(
    env: &dyn Environment,
    number: u32,
    ok: bool,
    disk: &str,
    case: &Case,
    summary: &str,
    ms: u64,
    log: &Log<'_>,
) {
    let (name, not) = (case.name, if ok { "" } else { "not " });
    let (checks, failed) = (log.checks(), log.failed());
    let words = if ok { summary } else { case.about };
    env.print(format_args!(
        "# {{\"test\":\"{name}\",\"disk\":{},\"ok\":{ok},\"checks\":{checks},\"failed\":{failed},\"ms\":{ms},\"text\":{}}}\n",
        Json(disk),
        Json(if ok { summary } else { log.shown().first().map_or("", |text| text) })
    ));
    env.print(format_args!("{not}ok {number} - {disk} {name}: {words}\n"));
    if !ok {
        env.print(format_args!(
            "  ---\n  message: {failed} of {checks} checks failed\n  details:\n"
        ));
        for text in log.shown() {
            env.print(format_args!("    - {}\n", Json(text)));
        }
    }
}

//! `vchan cp` between dom0 and a Linux guest.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::{KILL, PROMPT};
use super::linux::Linux;

/// The signal that asks to end.
const TERM: i32 = 15;

/// A tree goes from the guest to dom0 and back, a copy that is killed goes on, and nothing is read
/// or written outside of the served folder.
pub(super) fn copy(bench: &Bench) -> Result<()> {
    let (host, linux) = (bench.host, Linux::boot(bench)?);
    host.shell(
        "rm -rf /tmp/cp; mkdir -p /tmp/cp/served; ln -s /etc /tmp/cp/served/out; \
         echo secret >/tmp/cp/secret; head -c 12000000 /dev/urandom >/tmp/cp/served/large",
    )?;
    let server = host.spawn(&["out/vchan", "cp", "--serve", "/tmp/cp/served", "all", "-v"])?;
    bench.published(&format!("/local/domain/0/data/vchan/{}/cp/ring-ref", linux.domid))?;
    let said = || format!("the server said:\n{}", server.said());

    linux
        .run(
            "mkdir -p tree/sub/empty; head -c 3000000 /dev/urandom >tree/sub/data; echo text >tree/text
             chmod 751 tree/text; ln -s /etc/passwd tree/link
             vchan cp tree 0: 2>&1 | grep 'left out, .*: link'
             vchan cp 0:tree back && cmp tree/sub/data back/sub/data && cmp tree/text back/text
             test -d back/sub/empty; test ! -e back/link; test $(stat -c %a back/text) = 751",
        )
        .with_context(said)?;
    host.shell("test ! -e /tmp/cp/served/tree/link")?;
    linux
        .run(
            "for path in ../secret out/passwd tree/../../secret; do
                 code=0; vchan cp 0:$path stolen || code=$?; test $code != 0; test ! -e stolen
             done 2>&1
             code=0; vchan cp tree/text 0:out/new || code=$?; test $code = 1",
        )
        .with_context(said)?;
    host.shell("test ! -e /etc/new && grep -q secret /tmp/cp/secret")?;

    // Killed in the middle, it has a part of the file and no file; started again, all of it.
    // The guest itself looks at the part: asked from dom0, it would be late on a fast host.
    let cut = format!(
        "vchan cp 0:large . & pid=$!
         until test $(stat -c %s .large.vchan-part 2>/dev/null || echo 0) -gt 500000; do
             kill -0 $pid; done
         kill -{KILL} $pid; wait $pid || true"
    );
    linux.run(&cut).with_context(said)?;
    linux.run("test ! -e large && test -e .large.vchan-part")?;
    linux.run("vchan cp 0:large . && test ! -e .large.vchan-part").with_context(said)?;
    let sum = |text: String| text.split(' ').next().unwrap_or_default().to_string();
    let there = sum(host.shell("sha256sum /tmp/cp/served/large")?);
    let here = sum(linux.run("sha256sum large")?);
    ensure!(there == here, "the hash is {here} instead of {there}");

    server.signal(TERM)?;
    server.wait(PROMPT)?.expect(128 + TERM)?;
    host.shell("rm -r /tmp/cp").map(drop)
}

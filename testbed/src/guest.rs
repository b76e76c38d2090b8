//! One guest on a host, ours or a Linux one, watched on its console.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::Process;
use crate::host::{Host, PATIENCE, until};

/// Words on the guest's console once it serves.
pub const READY: &str = "echo: ready";

/// Folder in which xenconsoled keeps what guests print.
const CONSOLES: &str = "/var/log/xen/console";

/// A domain that we created; dropping it does not end it.
pub struct Guest<'a> {
    host: &'a Host,
    /// The name that xl knows it by.
    pub name: String,
    console: Process,
}

impl<'a> Guest<'a> {
    /// Runs `xl create xl/echo.xl` with `settings` on top.
    pub fn create(host: &'a Host, name: &str, settings: &[&str]) -> Result<Guest<'a>> {
        Guest::create_from(host, "xl/echo.xl", name, settings)
    }

    /// Creates the Linux guest; `words` tell its first program what to do (testbed/linux/init).
    pub fn linux(host: &'a Host, name: &str, words: &str) -> Result<Guest<'a>> {
        Guest::linux_with(host, name, words, &[])
    }

    /// The same with more settings for `xl create`, such as its disks.
    pub fn linux_with(
        host: &'a Host,
        name: &str,
        words: &str,
        settings: &[&str],
    ) -> Result<Guest<'a>> {
        let kernel = format!("kernel=\"{}\"", host.linux("vmlinuz"));
        let root = format!("ramdisk=\"{}\"", host.linux("root.cpio"));
        let extra = format!("extra=\"console=hvc0 quiet panic=-1 rdinit=/init {words}\"");
        let own = ["type=\"pvh\"", "memory=192", "vcpus=1", &kernel, &root, &extra];
        Guest::create_from(host, "/dev/null", name, &[&own, settings].concat())
    }

    /// Runs `xl create` with the file `xl` and `settings` on top. Among them can be flags, such as
    /// `-p`.
    pub fn create_from(
        host: &'a Host,
        xl: &str,
        name: &str,
        settings: &[&str],
    ) -> Result<Guest<'a>> {
        let log = log_path(name);
        host.shell(&format!("mkdir -p {CONSOLES}; : >{log}"))?;
        let console = host.spawn(&["tail", "-n", "+1", "-F", &log])?;
        let label = format!("name=\"{name}\"");
        // xl takes no flag behind the first setting.
        let (flags, settings): (Vec<&str>, Vec<&str>) =
            settings.iter().partition(|word| word.starts_with('-'));
        let arguments =
            [&["create"], &flags[..], &[xl, &label], host.settings(), &settings].concat();
        host.xl(&arguments).with_context(|| format!("cannot create guest {name}"))?;
        Ok(Guest { host, name: name.to_string(), console })
    }

    /// Creates it and waits until it serves.
    pub fn serving(host: &'a Host, name: &str, settings: &[&str]) -> Result<Guest<'a>> {
        let guest = Guest::create(host, name, settings)?;
        guest.says(READY)?;
        Ok(guest)
    }

    /// Waits until the console has shown `text`.
    pub fn says(&self, text: &str) -> Result<()> {
        self.says_within(text, PATIENCE)
    }

    /// Waits up to `patience` until the console has shown `text`.
    pub fn says_within(&self, text: &str, patience: Duration) -> Result<()> {
        self.console.wait_for(text, patience).with_context(|| format!("console of {}", self.name))
    }

    /// Waits until the console has shown `text` for the `count`th time.
    pub fn says_times(&self, text: &str, count: usize) -> Result<()> {
        self.says_times_within(text, count, PATIENCE)
    }

    /// The same for up to `patience`.
    pub fn says_times_within(&self, text: &str, count: usize, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let said = self.console();
            let found = said.matches(text).count();
            if found >= count {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} said {text:?} {found} times, not {count}:\n{said}",
                self.name
            );
            self.console.output_after(said.len(), Duration::from_secs(1));
        }
    }

    /// Returns everything that the console has shown so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(
            &self.console.output_after(0, Duration::from_millis(1)).unwrap_or_default(),
        )
        .into_owned()
    }

    /// Its domain id now (it changes with a reboot).
    pub fn domid(&self) -> Result<String> {
        Ok(self.host.xl(&["domid", &self.name])?.trim().to_string())
    }

    /// Starts `out/vchan connect` to it.
    pub fn client(&self) -> Result<Process> {
        self.host.spawn(&["out/vchan", "connect", &self.domid()?, "--timeout", "20"])
    }

    /// Sends one line through a new client and checks that it comes back in
    /// upper case.
    pub fn echoes(&self, line: &str) -> Result<()> {
        let client = self.client()?;
        client.write(format!("{line}\n").as_bytes())?;
        client.close_stdin()?;
        let reply = client.wait(PATIENCE)?.success()?;
        let expected = format!("{}\n", line.to_ascii_uppercase());
        ensure!(reply == expected, "sent {line:?}, expected {expected:?} back and got {reply:?}");
        Ok(())
    }

    /// The state letters that `xl list` shows, such as `-b----`.
    pub fn state(&self) -> Result<String> {
        let list = self.host.xl(&["list", &self.name])?;
        let state = list.lines().last().and_then(|line| line.split_whitespace().nth(4));
        Ok(state.with_context(|| format!("xl list prints no state:\n{list}"))?.to_string())
    }

    /// Waits until it has crashed (it must be created with `on_crash="preserve"`).
    pub fn crashed(&self) -> Result<()> {
        let crashed = until(PATIENCE, || Ok(self.state()?.contains('c')))?;
        ensure!(crashed, "{} has not crashed within {PATIENCE:?}", self.name);
        Ok(())
    }

    /// Waits until the domain is gone.
    pub fn gone(&self, patience: Duration) -> Result<()> {
        let listed = |line: &str| line.split_whitespace().next() == Some(&self.name);
        let gone = until(patience, || Ok(!self.host.xl(&["list"])?.lines().any(listed)))?;
        ensure!(gone, "domain {} still exists after {patience:?}", self.name);
        Ok(())
    }
}

/// Returns the path of the log of the console of the guest called `name`.
pub fn log_path(name: &str) -> String {
    format!("{CONSOLES}/guest-{name}.log")
}

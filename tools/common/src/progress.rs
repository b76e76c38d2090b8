//! Progress of long work.

use indicatif::{ProgressBar, ProgressStyle};

/// Receives the progress of long work.
pub trait Progress {
    /// Begins work named `what`, of `total` bytes or steps.
    fn begin(&mut self, what: &str, total: u64);
    /// Sets the number of bytes or steps that are done.
    fn done(&mut self, done: u64);
    /// Ends the work.
    fn end(&mut self);
}

/// A progress bar on standard error. Nothing is drawn where standard error is no terminal.
pub struct Bar {
    template: &'static str,
    bar: ProgressBar,
}

impl Bar {
    /// Creates a bar for work that is counted in bytes.
    pub fn of_bytes() -> Self {
        Bar::new("{msg}[{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Creates a bar for work that is counted in steps.
    pub fn of_steps() -> Self {
        Bar::new("{msg:24} [{bar:40}] {percent:>3}%")
    }

    fn new(template: &'static str) -> Self {
        Bar { template, bar: ProgressBar::hidden() }
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, total: u64) {
        self.end();
        let style = ProgressStyle::with_template(self.template).expect("a template that parses");
        self.bar = ProgressBar::new(total)
            .with_style(style.progress_chars("=> "))
            .with_message(what.to_string());
    }

    fn done(&mut self, done: u64) {
        self.bar.set_position(done);
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

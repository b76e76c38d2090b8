//! Says what goes on: a spinner on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A sequence of stages, each shown with the time it takes.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// Shows on standard error.
    pub fn new() -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar, begun: Instant::now() }
    }

    /// Begins a stage.
    pub fn stage(&self, what: &str) {
        if self.bar.is_hidden() {
            eprintln!("testbed: [{:5.1} s] {what}", self.begun.elapsed().as_secs_f64());
        }
        self.bar.set_message(what.to_string());
    }

    /// Adds a word on how far the stage is, on a terminal only.
    pub fn detail(&self, stage: &str, detail: &str) {
        self.bar.set_message(format!("{stage}: {detail}"));
    }

    /// All done; `what` stays on the screen.
    pub fn done(&self, what: &str) {
        self.bar.finish_and_clear();
        eprintln!("testbed: [{:5.1} s] {what}", self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

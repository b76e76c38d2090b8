//! A progress bar on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use vchan::Progress;

/// The bar of the measurement that is under way. Nothing is drawn where standard error is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        Bar(ProgressBar::hidden())
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, steps: u64) {
        self.end();
        let style = ProgressStyle::with_template("{msg:24} [{bar:40}] {percent:>3}%").expect("a template that parses");
        self.0 = ProgressBar::new(steps).with_style(style.progress_chars("=> ")).with_message(what.to_string());
    }

    fn done(&mut self, steps: u64) {
        self.0.set_position(steps);
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}

//! A progress bar on standard error.

use indicatif::{ProgressBar, ProgressStyle};
use xen_disk::Progress;

/// The bar of a copy. Nothing is drawn where standard error is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        Bar(ProgressBar::hidden())
    }
}

impl Progress for Bar {
    fn begin(&mut self, bytes: u64) {
        let template = "[{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("a template that parses");
        self.0 = ProgressBar::new(bytes).with_style(style.progress_chars("=> "));
    }

    fn done(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}

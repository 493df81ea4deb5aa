//! The program's side of a build: shows events on stderr and says whether Ctrl-C was pressed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imagespec_core::builder::Session;
use imagespec_core::event::{Event, Outcome};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::arguments::ProgressMode;

/// Shows a build to the user.
pub(crate) struct Terminal {
    cancelled: Arc<AtomicBool>,
    mode: Mode,
}

enum Mode {
    Bars { all: MultiProgress, running: Mutex<BTreeMap<u32, (ProgressBar, String)>> },
    Plain { titles: Mutex<BTreeMap<u32, String>> },
    Json,
    Quiet,
}

impl Terminal {
    /// `cancelled` is set by the handler of Ctrl-C.
    pub(crate) fn new(mode: ProgressMode, cancelled: Arc<AtomicBool>) -> Self {
        let bars = || Mode::Bars { all: MultiProgress::new(), running: Mutex::default() };
        let plain = || Mode::Plain { titles: Mutex::default() };
        let mode = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => bars(),
            ProgressMode::Tty => bars(),
            ProgressMode::Auto | ProgressMode::Plain => plain(),
            ProgressMode::Json => Mode::Json,
            ProgressMode::Quiet => Mode::Quiet,
        };
        Self { cancelled, mode }
    }
}

impl Session for Terminal {
    fn event(&self, event: Event) {
        match &self.mode {
            Mode::Bars { all, running } => show_bar(all, running, event),
            Mode::Plain { titles } => show_line(titles, event),
            Mode::Json => {
                let line = serde_json::to_string(&event).expect("an event has only string keys");
                print_line(&line);
            }
            Mode::Quiet => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

fn show_bar(all: &MultiProgress, running: &Mutex<BTreeMap<u32, (ProgressBar, String)>>, event: Event) {
    let mut running = running.lock().expect("no thread panics while it shows progress");
    match event {
        Event::StepStarted { step, title } => {
            let bar = all.add(ProgressBar::new_spinner().with_message(title.clone()));
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is well-formed");
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            running.insert(step, (bar, title));
        }
        Event::StepProgress { step, done, total, .. } => {
            if let Some((bar, _)) = running.get(&step) {
                bar.set_length(total.unwrap_or(done));
                bar.set_position(done);
            }
        }
        Event::StepFinished { step, duration_ms, outcome, summary } => {
            if let Some((bar, title)) = running.remove(&step) {
                bar.finish_and_clear();
                // Nothing to do about a terminal that is gone.
                let _ = all.println(finished(&title, duration_ms, outcome, &summary));
            }
        }
        Event::Output { line, .. } | Event::Warning { message: line } => {
            let _ = all.println(line);
        }
    }
}

fn show_line(titles: &Mutex<BTreeMap<u32, String>>, event: Event) {
    let mut titles = titles.lock().expect("no thread panics while it shows progress");
    match event {
        Event::StepStarted { step, title } => {
            titles.insert(step, title);
        }
        Event::StepProgress { .. } => {}
        Event::StepFinished { step, duration_ms, outcome, summary } => {
            let title = titles.remove(&step).unwrap_or_default();
            print_line(&finished(&title, duration_ms, outcome, &summary));
        }
        Event::Output { line, .. } => print_line(&format!("  | {line}")),
        Event::Warning { message } => print_line(&format!("warning: {message}")),
    }
}

fn finished(title: &str, duration_ms: u64, outcome: Outcome, summary: &str) -> String {
    let time = match outcome {
        Outcome::Cached => "cached".to_owned(),
        Outcome::Done => format!("{}.{:02} s", duration_ms / 1000, duration_ms % 1000 / 10),
    };
    let line = format!("{time:>8}  {title}  {summary}");
    line.trim_end().to_owned()
}

/// Prints one line on stderr.
pub(crate) fn print_line(line: &str) {
    // Nothing to do about a terminal that is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints one line on stdout. A reader that has read enough, as `head` does, is no error.
pub(crate) fn print_data(line: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

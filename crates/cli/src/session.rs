//! The program's side of a build: shows events on stderr and says whether Ctrl-C was pressed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imagespec_core::builder::Session;
use imagespec_core::event::{Event, Outcome, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::arguments::ProgressMode;

/// A step of which nothing is known but that it runs.
const RUNNING: &str = "{spinner} {wide_msg} {elapsed:>4}";
/// A step that counts bytes up to an end, and one whose end nobody knows.
const BYTES: &str = "{spinner} {wide_msg} {bar:20} {decimal_bytes:>9} of {decimal_total_bytes:<9} {elapsed:>4}";
const BYTES_ENDLESS: &str = "{spinner} {wide_msg} {decimal_bytes:>9} {elapsed:>4}";
/// The same for things.
const ITEMS: &str = "{spinner} {wide_msg} {bar:20} {pos:>4} of {len:<4} {elapsed:>4}";
const ITEMS_ENDLESS: &str = "{spinner} {wide_msg} {pos:>4} {elapsed:>4}";

/// Shows a build to the user.
pub(crate) struct Terminal {
    cancelled: Arc<AtomicBool>,
    /// Whether the user was told that the build is being cancelled.
    is_told: AtomicBool,
    mode: Mode,
}

enum Mode {
    Bars { all: MultiProgress, running: Mutex<BTreeMap<u32, Bar>> },
    Plain { titles: Mutex<BTreeMap<u32, String>> },
    Json,
    Quiet,
}

/// A step that runs, on the screen.
struct Bar {
    bar: ProgressBar,
    title: String,
    template: &'static str,
}

impl Terminal {
    /// `cancelled` is set by the handler of Ctrl-C.
    pub(crate) fn new(mode: ProgressMode, cancelled: Arc<AtomicBool>) -> Self {
        let bars = || Mode::Bars { all: MultiProgress::new(), running: Mutex::default() };
        let plain = || Mode::Plain { titles: Mutex::default() };
        // A terminal that cannot move its cursor shows no bars.
        let has_bars = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mode = match mode {
            ProgressMode::Auto | ProgressMode::Tty if has_bars => bars(),
            ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => plain(),
            ProgressMode::Json => Mode::Json,
            ProgressMode::Quiet => Mode::Quiet,
        };
        Self { cancelled, is_told: AtomicBool::new(false), mode }
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
        let is_cancelled = self.cancelled.load(Ordering::Relaxed);
        if is_cancelled && !self.is_told.swap(true, Ordering::Relaxed) {
            let line = "cancelling; press Ctrl-C again to leave at once";
            match &self.mode {
                // Nothing to do about a terminal that is gone.
                Mode::Bars { all, .. } => drop(all.println(line)),
                Mode::Plain { .. } => print_line(line),
                Mode::Json | Mode::Quiet => {}
            }
        }
        is_cancelled
    }
}

impl Drop for Terminal {
    /// Takes away the bars of steps that did not end, so that an error has the screen for itself.
    fn drop(&mut self) {
        if let Mode::Bars { running, .. } = &mut self.mode {
            let running = running.get_mut().expect("no thread panics while it shows progress");
            running.values().for_each(|step| step.bar.finish_and_clear());
        }
    }
}

fn show_bar(all: &MultiProgress, running: &Mutex<BTreeMap<u32, Bar>>, event: Event) {
    let mut running = running.lock().expect("no thread panics while it shows progress");
    match event {
        Event::StepStarted { step, title } => {
            let bar = all.add(ProgressBar::new_spinner().with_style(style(RUNNING)).with_message(title.clone()));
            bar.enable_steady_tick(Duration::from_millis(100));
            running.insert(step, Bar { bar, title, template: RUNNING });
        }
        Event::StepProgress { step, done, total, unit } => {
            if let Some(step) = running.get_mut(&step) {
                let template = match (unit, total) {
                    (Unit::Bytes, Some(_)) => BYTES,
                    (Unit::Bytes, None) => BYTES_ENDLESS,
                    (Unit::Items, Some(_)) => ITEMS,
                    (Unit::Items, None) => ITEMS_ENDLESS,
                };
                if step.template != template {
                    step.template = template;
                    step.bar.set_style(style(template));
                }
                if let Some(total) = total {
                    step.bar.set_length(total);
                }
                step.bar.set_position(done);
            }
        }
        Event::StepFinished { step, duration_ms, outcome, summary } => {
            if let Some(Bar { bar, title, .. }) = running.remove(&step) {
                bar.finish_and_clear();
                // Nothing to do about a terminal that is gone.
                drop(all.println(finished(&title, duration_ms, outcome, &summary)));
            }
        }
        Event::Output { line, .. } => drop(all.println(output(&line))),
        Event::Warning { message } => drop(all.println(warning(&message))),
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ").progress_chars("━╸─")
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
        Event::Output { line, .. } => print_line(&output(&line)),
        Event::Warning { message } => print_line(&warning(&message)),
    }
}

fn output(line: &str) -> String {
    format!("  | {line}")
}

fn warning(message: &str) -> String {
    format!("warning: {message}")
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

//! The program's side of a build: shows events on stderr and says whether Ctrl-C was pressed.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imagespec_core::builder::Session;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::event::{Event, Outcome, Unit};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::ProgressMode;
use crate::failure::Failure;
use crate::screen::Screen;

/// As often as bars move by themselves.
const REDRAWS_PER_SECOND_MAX: u8 = 10;

/// A step of which nothing is known but that it runs.
const RUNNING: &str = "{spinner} {elapsed:>6}  {wide_msg}";
/// A step that counts bytes up to an end, and one whose end nobody knows.
const BYTES: &str = "{spinner} {elapsed:>6}  {bar:20} {decimal_bytes:>9} of {decimal_total_bytes:<9}  {wide_msg}";
const BYTES_ENDLESS: &str = "{spinner} {elapsed:>6}  {decimal_bytes:>9}  {wide_msg}";
/// The same for things.
const ITEMS: &str = "{spinner} {elapsed:>6}  {bar:20} {pos:>4} of {len:<4}  {wide_msg}";
const ITEMS_ENDLESS: &str = "{spinner} {elapsed:>6}  {pos:>4}  {wide_msg}";

/// Shows a build to the user.
pub(crate) struct Terminal {
    cancelled: Arc<AtomicBool>,
    /// Whether the user was told that the build is being cancelled.
    is_told: AtomicBool,
    mode: Mode,
}

enum Mode {
    Bars(Bars),
    Plain { titles: Mutex<BTreeMap<u32, String>> },
    Json,
    Quiet,
}

struct Bars {
    all: MultiProgress,
    running: Mutex<BTreeMap<u32, Bar>>,
    /// Whether any step runs, for the screen.
    has_any: Arc<AtomicBool>,
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
        let bars = || Mode::Bars(Bars::new());
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

    /// Says something that the user may like to know.
    pub(crate) fn notice(&self, message: &str) {
        self.event(Event::Notice { message: message.to_owned() });
    }

    /// Warns of something about what the user wrote, however quiet the build is.
    pub(crate) fn warn(&self, warning: &Diagnostic) {
        let text = warning.render();
        match &self.mode {
            Mode::Json => self.event(Event::Warning { message: warning.message.clone() }),
            Mode::Bars(bars) => bars.print(text.trim_end()),
            Mode::Plain { .. } | Mode::Quiet => print_line(text.trim_end()),
        }
    }
}

impl Session for Terminal {
    fn event(&self, event: Event) {
        match &self.mode {
            Mode::Bars(bars) => bars.show(event),
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
                Mode::Bars(bars) => bars.print(line),
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
        if let Mode::Bars(bars) = &mut self.mode {
            let running = bars.running.get_mut().expect("no thread panics while it shows progress");
            running.values().for_each(|step| step.bar.finish_and_clear());
        }
    }
}

impl Bars {
    fn new() -> Self {
        let has_any = Arc::new(AtomicBool::new(false));
        let screen = Box::new(Screen::new(Arc::clone(&has_any)));
        let target = ProgressDrawTarget::term_like_with_hz(screen, REDRAWS_PER_SECOND_MAX);
        Self { all: MultiProgress::with_draw_target(target), running: Mutex::default(), has_any }
    }

    fn show(&self, event: Event) {
        let mut running = self.running.lock().expect("no thread panics while it shows progress");
        match event {
            Event::StepStarted { step, title } => {
                self.has_any.store(true, Ordering::Relaxed);
                let bar = ProgressBar::new_spinner().with_style(style(RUNNING)).with_message(title.clone());
                let bar = self.all.add(bar);
                bar.enable_steady_tick(Duration::from_millis(100));
                running.insert(step, Bar { bar, title, template: RUNNING });
            }
            Event::StepProgress { step, done, total, unit } => {
                if let Some(step) = running.get_mut(&step) {
                    step.advance(done, total, unit);
                }
            }
            Event::StepFinished { step, duration_ms, outcome, summary } => {
                if let Some(Bar { bar, title, .. }) = running.remove(&step) {
                    self.has_any.store(!running.is_empty(), Ordering::Relaxed);
                    bar.finish_and_clear();
                    self.print(&finished(&title, duration_ms, outcome, &summary));
                }
            }
            Event::Output { line, .. } => self.print(&output(&line)),
            Event::Notice { message } => self.print(&message),
            Event::Warning { message } => self.print(&warning(&message)),
        }
    }

    fn print(&self, line: &str) {
        // Nothing to do about a terminal that is gone.
        drop(self.all.println(line));
    }
}

impl Bar {
    fn advance(&mut self, done: u64, total: Option<u64>, unit: Unit) {
        let template = match (unit, total) {
            (Unit::Bytes, Some(_)) => BYTES,
            (Unit::Bytes, None) => BYTES_ENDLESS,
            (Unit::Items, Some(_)) => ITEMS,
            (Unit::Items, None) => ITEMS_ENDLESS,
        };
        if self.template != template {
            self.template = template;
            self.bar.set_style(style(template));
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
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
        Event::Notice { message } => print_line(&message),
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
pub(crate) fn print_data(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let mut diagnostic = Diagnostic::error("cannot write to stdout");
            diagnostic.notes.push(error.to_string());
            Err(Failure::new(diagnostic))
        }
        _ => Ok(()),
    }
}

//! What the caller of a build is told: steps of our own, and BuildKit's own stream of vertices, statuses and logs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};
use imagespec_core::builder::Session;
use imagespec_core::event::{Event, Outcome, Unit};
use imagespec_core::masked::Masked;

use crate::recipe::{Recipe, RecipeStep};

/// In BuildKit's names of what is done about a base that was loaded before.
const LOADED_BASE: &str = "/imagespec-base:";
/// How many of a failed step's last lines its error shows.
const LINES_MAX: usize = 20;
/// A longer line is cut: a program that prints no line ends should not fill the memory.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// How BuildKit's name of finding a base begins.
const LOOK_UP: &str = "[internal] load metadata for ";
/// How BuildKit's names of its own work begin that takes long enough to be told.
const TOLD: [(&str, &str); 5] = [
    (LOOK_UP, "look up the base"),
    ("exporting to", "export the image"),
    ("importing cache manifest", "import the cache"),
    ("exporting cache", "export the cache"),
    ("importing to docker", "load the image"),
];

/// The caller of a build, and the number of the next step.
pub struct Progress<'a> {
    session: &'a dyn Session,
    next: AtomicU32,
}

/// A step that was begun.
pub struct Step<'a> {
    session: &'a dyn Session,
    number: u32,
    start: Instant,
}

impl<'a> Progress<'a> {
    /// Tells `session`.
    pub fn new(session: &'a dyn Session) -> Self {
        Self { session, next: AtomicU32::new(0) }
    }

    /// Whether the user asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.session.is_cancelled()
    }

    /// Says something that the user may like to know.
    pub fn notice(&self, message: String) {
        self.session.event(Event::Notice { message });
    }

    /// Says something that the user should know.
    pub fn warn(&self, message: String) {
        self.session.event(Event::Warning { message });
    }

    /// Begins a step.
    pub fn begin(&self, title: &str) -> Step<'a> {
        let number = self.number();
        self.session.event(Event::StepStarted { step: number, title: title.to_owned() });
        Step { session: self.session, number, start: Instant::now() }
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Step<'_> {
    /// So many bytes are done, of `total` if that is known.
    pub fn reach(&self, done: u64, total: Option<u64>) {
        self.session.event(Event::StepProgress { step: self.number, done, total, unit: Unit::Bytes });
    }

    /// A program of it printed a line.
    pub fn output(&self, line: &str) {
        self.session.event(Event::Output { step: self.number, line: line.to_owned() });
    }

    /// The step ended well.
    pub fn finish(self, outcome: Outcome, summary: String) {
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.session.event(Event::StepFinished { step: self.number, duration_ms, outcome, summary });
    }
}

/// Follows one solve: turns BuildKit's stream into events, and remembers what an error needs.
pub(crate) struct Follower<'a> {
    progress: &'a Progress<'a>,
    recipe: &'a Recipe,
    masked: Masked,
    vertices: BTreeMap<String, Followed>,
    cached: BTreeSet<(String, usize)>,
    failed: Option<FailedStep>,
}

/// What BuildKit said of one vertex so far.
struct Followed {
    name: String,
    recipe_step: Option<RecipeStep>,
    /// The number of the step in the events, while it runs.
    number: Option<u32>,
    is_told: bool,
    /// What was printed since the last line end.
    rest: Vec<u8>,
    last: VecDeque<String>,
    /// Bytes done and in all, by what they are of.
    transfers: BTreeMap<String, (u64, u64)>,
}

/// The vertex that failed first.
#[derive(Debug, Clone)]
pub struct FailedStep {
    /// BuildKit's name of it: `[image 3/9] RUN …`.
    pub name: String,
    /// What it is, if it is one of the recipe's.
    pub step: Option<RecipeStep>,
    /// What BuildKit said.
    pub message: String,
    /// The last lines that it printed.
    pub lines: Vec<String>,
}

impl FailedStep {
    /// The base that was looked up, if that is what failed.
    pub fn looked_up(&self) -> Option<&str> {
        self.name.strip_prefix(LOOK_UP)
    }

    /// The exit code of the program that failed, if one did. BuildKit says it at the end of what it says.
    pub fn exit_code(&self) -> Option<i32> {
        self.message.rsplit_once("exit code: ")?.1.trim().parse().ok()
    }
}

impl<'a> Follower<'a> {
    pub(crate) fn new(progress: &'a Progress<'a>, recipe: &'a Recipe, masked: Masked) -> Self {
        Self { progress, recipe, masked, vertices: BTreeMap::new(), cached: BTreeSet::new(), failed: None }
    }

    /// Tells what is new.
    pub(crate) fn take(&mut self, status: &StatusResponse) {
        for vertex in &status.vertexes {
            self.vertex(vertex);
        }
        for status in &status.statuses {
            self.status(status);
        }
        for log in &status.logs {
            self.log(log);
        }
    }

    /// The step that failed, with what it had printed by then.
    pub(crate) fn failed(mut self) -> Option<FailedStep> {
        self.failed.take()
    }

    /// Stage and index of each of the recipe's steps that was done earlier.
    pub(crate) fn cached(self) -> BTreeSet<(String, usize)> {
        self.cached
    }

    fn vertex(&mut self, vertex: &Vertex) {
        let recipe = self.recipe;
        let followed = self.vertices.entry(vertex.digest.clone()).or_insert_with(|| Followed {
            name: vertex.name.clone(),
            recipe_step: step_of(recipe, &vertex.name).cloned(),
            number: None,
            is_told: false,
            rest: Vec::new(),
            last: VecDeque::new(),
            transfers: BTreeMap::new(),
        });
        if let Some(step) = followed.recipe_step.as_ref().filter(|_| vertex.cached) {
            self.cached.insert((step.stage.clone(), step.index));
        }
        let title = match &followed.recipe_step {
            // That it was loaded was told.
            _ if followed.name.contains(LOADED_BASE) => None,
            Some(step) => Some(step.title.clone()),
            None => TOLD.iter().find(|(name, _)| followed.name.starts_with(name)).map(|(_, title)| (*title).to_owned()),
        };
        let session = self.progress.session;
        if let Some(title) = title {
            let has_begun = vertex.started.is_some() || vertex.cached;
            // BuildKit may begin a step twice: once to look at it, and once to do it. It is told once.
            if has_begun && followed.number.is_none() && !followed.is_told {
                let number = self.progress.number();
                followed.number = Some(number);
                session.event(Event::StepStarted { step: number, title });
            }
            let is_done = vertex.completed.is_some() && vertex.error.is_empty();
            if let Some(number) = followed.number.filter(|_| is_done) {
                flush(followed, &self.masked, session);
                let outcome = if vertex.cached { Outcome::Cached } else { Outcome::Done };
                let duration_ms = duration_ms(vertex.started.as_ref(), vertex.completed.as_ref());
                session.event(Event::StepFinished { step: number, duration_ms, outcome, summary: String::new() });
                (followed.number, followed.is_told) = (None, true);
            }
        }
        // Whatever else runs is cancelled with the first that fails.
        let is_cancelled = vertex.error.ends_with("context canceled");
        if !vertex.error.is_empty() && !is_cancelled && self.failed.is_none() {
            flush(followed, &self.masked, session);
            self.failed = Some(FailedStep {
                name: followed.name.clone(),
                step: followed.recipe_step.clone(),
                message: self.masked.apply(&vertex.error),
                lines: followed.last.iter().cloned().collect(),
            });
        }
    }

    fn status(&mut self, status: &VertexStatus) {
        let Some(followed) = self.vertices.get_mut(&status.vertex) else { return };
        let Some(number) = followed.number else { return };
        let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
        followed.transfers.insert(status.id.clone(), (bytes(status.current), bytes(status.total)));
        let (done, total) = followed.transfers.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if total > 0 {
            let (total, unit) = (Some(total), Unit::Bytes);
            self.progress.session.event(Event::StepProgress { step: number, done, total, unit });
        }
    }

    fn log(&mut self, log: &VertexLog) {
        let Some(followed) = self.vertices.get_mut(&log.vertex) else { return };
        for byte in &log.msg {
            match byte {
                b'\n' => tell_line(followed, &self.masked, self.progress.session),
                byte if followed.rest.len() < LINE_BYTES_MAX => followed.rest.push(*byte),
                _ => {}
            }
        }
        // What a step printed last may come after the news of its failure.
        if let Some(failed) = self.failed.as_mut().filter(|failed| failed.name == followed.name) {
            failed.lines = followed.last.iter().cloned().collect();
        }
    }
}

fn flush(followed: &mut Followed, masked: &Masked, session: &dyn Session) {
    if !followed.rest.is_empty() {
        tell_line(followed, masked, session);
    }
}

fn tell_line(followed: &mut Followed, masked: &Masked, session: &dyn Session) {
    let bytes = std::mem::take(&mut followed.rest);
    let text = String::from_utf8_lossy(&bytes);
    // Of a line that a program wrote over, the end is what a terminal would show.
    let text = text.trim_end_matches('\r');
    let line = masked.apply(text.rsplit('\r').next().unwrap_or_default());
    if followed.last.len() == LINES_MAX {
        followed.last.pop_front();
    }
    followed.last.push_back(line.clone());
    if let Some(step) = followed.number {
        session.event(Event::Output { step, line });
    }
}

/// The recipe's step that BuildKit calls `name`: `[image 3/9] RUN …`, `[linux/arm64 image 3/9] RUN …`, and without a stage
/// where there is one alone.
fn step_of<'a>(recipe: &'a Recipe, name: &str) -> Option<&'a RecipeStep> {
    let (inside, _) = name.strip_prefix('[')?.split_once(']')?;
    let mut words = inside.split_whitespace().rev();
    let (index, _) = words.next()?.split_once('/')?;
    let index: usize = index.parse().ok()?;
    // A platform is no name of a stage.
    let stage = words.next().filter(|word| !word.contains('/'));
    recipe.steps.iter().find(|step| stage.is_none_or(|stage| step.stage == stage) && step.index == index)
}

fn duration_ms(started: Option<&Timestamp>, completed: Option<&Timestamp>) -> u64 {
    let milliseconds = |time: &Timestamp| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
    match (started.map(milliseconds), completed.map(milliseconds)) {
        (Some(started), Some(completed)) => u64::try_from(completed - started).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Session for Heard {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(serde_json::to_string(&event).unwrap());
        }

        fn is_cancelled(&self) -> bool {
            false
        }
    }

    fn recipe() -> Recipe {
        let step = |index, title: &str, field: &str| RecipeStep {
            stage: "image".to_owned(),
            index,
            is_base: index == 1,
            title: title.to_owned(),
            field: Some(field.to_owned()),
        };
        Recipe {
            dockerfile: String::new(),
            context: BTreeMap::new(),
            build_arguments: BTreeMap::new(),
            secrets: BTreeMap::new(),
            wants_ssh: false,
            steps: vec![step(1, "base x", "base_image"), step(2, "run 1 command", "commands[0]")],
        }
    }

    fn time(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn vertex(name: &str) -> Vertex {
        Vertex { digest: name.to_owned(), name: name.to_owned(), ..Vertex::default() }
    }

    fn of(vertexes: Vec<Vertex>, logs: Vec<VertexLog>) -> StatusResponse {
        StatusResponse { vertexes, statuses: Vec::new(), logs, warnings: Vec::new() }
    }

    fn log(vertex: &str, text: &str) -> VertexLog {
        VertexLog { vertex: vertex.to_owned(), timestamp: None, stream: 1, msg: text.as_bytes().to_vec() }
    }

    #[test]
    fn vertices_of_the_recipe_are_told_by_their_titles_and_lines_are_whole_and_masked() {
        let heard = Heard::default();
        let progress = Progress::new(&heard);
        let recipe = recipe();
        let mut masked = Masked::default();
        masked.add("s3cret");
        let mut follower = Follower::new(&progress, &recipe, masked);
        let (base, run) = ("[image 1/2] FROM x", "[linux/amd64 image 2/2] RUN y");
        follower.take(&of(vec![vertex("[internal] load build definition"), vertex(base), vertex(run)], Vec::new()));
        let cached = Vertex { cached: true, started: time(1), completed: time(1), ..vertex(base) };
        let started = Vertex { started: time(1), ..vertex(run) };
        follower.take(&of(vec![cached, started], vec![log(run, "one\ntw"), log(run, "o s3cret\n50%\r100%\r\n")]));
        let done = Vertex { started: time(1), completed: time(3), ..vertex(run) };
        follower.take(&of(vec![done], Vec::new()));
        let told = heard.0.lock().unwrap().join("\n");
        insta::assert_snapshot!(told, @r#"
        {"event":"step-started","step":0,"title":"base x"}
        {"event":"step-finished","step":0,"duration_ms":0,"outcome":"cached","summary":""}
        {"event":"step-started","step":1,"title":"run 1 command"}
        {"event":"output","step":1,"line":"one"}
        {"event":"output","step":1,"line":"two ****"}
        {"event":"output","step":1,"line":"100%"}
        {"event":"step-finished","step":1,"duration_ms":2000,"outcome":"done","summary":""}
        "#);
        assert!(follower.failed().is_none());
    }

    #[test]
    fn the_step_that_failed_first_is_remembered_with_its_last_lines() {
        let heard = Heard::default();
        let progress = Progress::new(&heard);
        let recipe = recipe();
        let mut follower = Follower::new(&progress, &recipe, Masked::default());
        let run = "[image 2/2] RUN y";
        follower.take(&of(vec![Vertex { started: time(1), ..vertex(run) }], Vec::new()));
        let lines: String = (0..30).map(|number| format!("line {number}\n")).collect();
        let failed = Vertex { started: time(1), completed: time(2), error: "exit code: 3".to_owned(), ..vertex(run) };
        let other = Vertex { error: "context canceled".to_owned(), ..vertex("[image 1/2] FROM x") };
        follower.take(&of(vec![other, failed], vec![log(run, &lines), log(run, "the end")]));
        let failed = follower.failed().unwrap();
        assert_eq!((failed.name.as_str(), failed.message.as_str()), (run, "exit code: 3"));
        assert_eq!(failed.step.unwrap().field.as_deref(), Some("commands[0]"));
        assert_eq!((failed.lines.len(), failed.lines[19].as_str()), (20, "line 29"));
    }
}

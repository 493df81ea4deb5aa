//! A loaded plugin as a builder like any other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use imagespec_core::boundary::{self, CallError, Door, InvalidAnswer, InvalidRequest, RenderRequest};
use imagespec_core::builder::{BuildError, BuildRequest, Builder, Description, FailureKind, Feature, Session};
use imagespec_core::event::Event;
use imagespec_core::plan::Plan;
use imagespec_core::report::Report;

use crate::descriptor::Descriptor;
use crate::error::PluginError;
use crate::file::PluginFile;
use crate::library::Library;
use crate::sealed::Sealed;
use crate::worker::{Worker, greeting};

/// As often it is asked whether the user cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a cancelled builder may take before its worker is ended.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// More events than any build has. A builder that floods would otherwise be shown until somebody stops it.
const EVENTS_MAX: u64 = 1_000_000;
/// The same for lines of output, which a program in the build prints and no builder answers for.
const LINES_MAX: u64 = 50_000_000;

/// Where the code of a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In a process of its own: a crash is an error.
    Worker,
    /// In this process: a crash is the end of it.
    InProcess,
}

/// A loaded plugin.
pub struct Loaded {
    description: Description,
    place: Place,
}

enum Place {
    Worker(Arc<Worker>),
    InProcess(Arc<Library>),
}

impl Loaded {
    /// Loads `file`. `program` is this program, that a worker is started as.
    ///
    /// # Errors
    /// Why it cannot be loaded, or what is wrong with what it says of itself.
    pub fn load(file: &PluginFile, mode: Mode, program: &Path) -> Result<Self, PluginError> {
        let descriptor = Descriptor::read(file)?;
        let memory = |source| PluginError::Memory { path: file.path.clone(), source };
        let sealed = Sealed::new(&format!("imagespec-{}", descriptor.name), &file.bytes).map_err(memory)?;
        let failed = |error: CallError| PluginError::Failed(Box::new(error.into_build_error(&descriptor.name)));
        let place = match mode {
            Mode::Worker => Place::Worker(Arc::new(Worker::start(program, &descriptor.name, &sealed).map_err(failed)?)),
            Mode::InProcess => {
                let greeting = greeting(program, &sealed);
                Place::InProcess(Arc::new(Library::load(sealed, &greeting).map_err(failed)?))
            }
        };
        let text = place.door().describe().map_err(failed)?;
        let invalid = |error: InvalidAnswer| PluginError::Failed(Box::new(error.into_build_error(&descriptor.name)));
        let description = boundary::description_from_json(&text).map_err(invalid)?;
        if description.name != descriptor.name {
            let (file, own) = (&descriptor.name, &description.name);
            let message =
                format!("the plugin's file says that it is builder `{file}`, and its code that it is `{own}`");
            let hint = "tell its author: `export_builder!` and `describe` must have the same name";
            return Err(PluginError::Failed(Box::new(internal(message).hint(hint))));
        }
        Ok(Self { description, place })
    }

    /// What is behind the builder. It lives for as long as somebody has it.
    pub fn door(&self) -> Arc<dyn Door> {
        self.place.door()
    }

    /// Has `method` done with what `request` became.
    fn converse(
        &self,
        method: &str,
        request: Result<String, InvalidRequest>,
        session: &dyn Session,
    ) -> Result<String, BuildError> {
        static OPERATIONS: AtomicU64 = AtomicU64::new(1);
        let operation = OPERATIONS.fetch_add(1, Ordering::Relaxed);
        let request = request.map_err(|error| BuildError::new(FailureKind::Spec, &error))?;
        let (sender, receiver) = sync_channel(1024);
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                let sender = sender;
                self.door().call(operation, method, &request, &|json| drop(sender.send(json.to_owned())))
            });
            let mut cancelled: Option<Instant> = None;
            let (mut events, mut lines) = (0, 0);
            let mut flood = None;
            loop {
                match receiver.recv_timeout(CANCEL_INTERVAL) {
                    Ok(json) => {
                        let event = boundary::event_from_json(&json);
                        match event {
                            Some(Event::Output { .. }) => lines += 1,
                            _ => events += 1,
                        }
                        // One that this program does not know is of a newer builder.
                        event.into_iter().for_each(|event| session.event(event));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if events > EVENTS_MAX || lines > LINES_MAX {
                    let message =
                        format!("builder `{}` sent more than a million events, and was ended", self.description.name);
                    self.door().cancel(operation);
                    self.place.end(&message);
                    flood = Some(internal(message).hint("tell the builder's author"));
                    break;
                }
                match cancelled {
                    None if session.is_cancelled() => {
                        self.door().cancel(operation);
                        cancelled = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() > CANCEL_TIMEOUT => {
                        let (name, seconds) = (&self.description.name, CANCEL_TIMEOUT.as_secs());
                        self.place.end(&format!(
                            "builder `{name}` did not stop {seconds} seconds after it was cancelled, and was ended"
                        ));
                        break;
                    }
                    _ => {}
                }
            }
            drop(receiver);
            let answer = call.join();
            if let Some(flood) = flood {
                return Err(flood);
            }
            match answer {
                Ok(answer) => answer.map_err(|error| error.into_build_error(&self.description.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Place {
    fn door(&self) -> Arc<dyn Door> {
        match self {
            Self::Worker(worker) => Arc::clone(worker) as Arc<dyn Door>,
            Self::InProcess(library) => Arc::clone(library) as Arc<dyn Door>,
        }
    }

    /// Ends a worker; in this process, nothing can be ended.
    fn end(&self, message: &str) {
        if let Self::Worker(worker) = self {
            worker.end(message);
        }
    }
}

impl Builder for Loaded {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn build(&self, request: &BuildRequest, session: &dyn Session) -> Result<Report, BuildError> {
        let answer = self.converse(boundary::BUILD, request.to_json(), session)?;
        boundary::report_from_json(&answer).map_err(|invalid| invalid.into_build_error(&self.description.name))
    }

    fn lock(&self, request: &BuildRequest, session: &dyn Session) -> Result<Plan, BuildError> {
        let answer = self.converse(boundary::LOCK, request.to_json(), session)?;
        Plan::from_json(&answer).map_err(|invalid| {
            let message = format!("builder `{}` answers with a plan that cannot be used", self.description.name);
            BuildError { causes: vec![invalid.to_string()], ..internal(message) }.hint("tell its author")
        })
    }

    fn render(
        &self,
        request: &BuildRequest,
        folder: Option<&Path>,
        session: &dyn Session,
    ) -> Result<String, BuildError> {
        let request = RenderRequest { build: request.clone(), folder: folder.map(Path::to_owned) };
        let answer = self.converse(boundary::RENDER, request.to_json(), session)?;
        boundary::rendered_from_json(&answer).map_err(|invalid| invalid.into_build_error(&self.description.name))
    }

    fn find(&self, request: &BuildRequest, session: &dyn Session) -> Result<Option<Report>, BuildError> {
        // One that knows nothing of the question would take it for a mistake.
        if !self.description.features.contains(&Feature::Find) {
            return Ok(None);
        }
        let answer = self.converse(boundary::FIND, request.to_json(), session)?;
        boundary::found_from_json(&answer).map_err(|invalid| invalid.into_build_error(&self.description.name))
    }
}

fn internal(message: String) -> BuildError {
    BuildError::of(FailureKind::Internal, message)
}

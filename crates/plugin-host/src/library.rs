//! A plugin that is loaded into this process. It is never unloaded: its threads and its statics may live on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use imagespec_core::boundary::{self, CallError, Door, Greeting};
use imagespec_core::builder::{BuildError, FailureKind};
use imagespec_plugin_abi::{Host, PluginRef, RErr, ROk, RResult, RStr, RString, SYMBOL};
use libloading::os::unix::{Library as Opened, RTLD_LOCAL, RTLD_NOW};

use crate::sealed::Sealed;
use crate::trace;

/// Events that wait for the program; a plugin that sends more waits, too.
const EVENTS_MAX: usize = 1024;

/// A plugin that is loaded into this process.
pub struct Library {
    plugin: PluginRef,
}

/// Where the events of operations that run go. A plugin knows nothing but the operation's number, which is therefore one
/// in the whole process.
static OPERATIONS: Mutex<Option<HashMap<u64, SyncSender<String>>>> = Mutex::new(None);

extern "C" fn event(operation: u64, json: RStr<'_>) {
    let sender = OPERATIONS.lock().ok().and_then(|operations| operations.as_ref()?.get(&operation).cloned());
    // An event after the end of its operation has nobody to go to.
    if let Some(sender) = sender {
        drop(sender.send(json.as_str().to_owned()));
    }
}

extern "C" fn trace(json: RStr<'_>) {
    trace::emit(json.as_str());
}

extern "C" fn trace_enabled(level: u8, target: RStr<'_>) -> bool {
    trace::is_enabled(level, target.as_str())
}

impl Library {
    /// Loads `file` into this process and greets it.
    ///
    /// # Errors
    /// Why it cannot be loaded, or what it answered to the greeting.
    pub fn load(file: Sealed, greeting: &Greeting) -> Result<Self, CallError> {
        let refused = |reason: String| {
            let message = "the plugin does not fit this program".to_owned();
            let hints =
                vec!["compile it again for this machine, with the `imagespec-plugin-sdk` of this version".to_owned()];
            let causes = reason.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
            CallError::Gone(Box::new(BuildError { kind: FailureKind::Machine, message, causes, hints, field: None }))
        };
        // SAFETY: the file's constructors run. It is a plugin that its user trusts (docs/security.md), its bytes were
        // verified, and cannot have changed since.
        let library = unsafe { Opened::open(Some(file.path()), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|error| refused(error.to_string()))?;
        // SAFETY: the address alone is taken; what lies there is said by the next line.
        let symbol = unsafe { library.get::<*const c_void>(SYMBOL.as_bytes()) };
        let symbol = symbol.map_err(|error| refused(error.to_string()))?.into_raw().cast_const();
        // The loader knows a library by its path, which has the number of the descriptor: another plugin that came to have
        // that number would be taken for this one. And processes of the builder load the same file.
        std::mem::forget(file);
        std::mem::forget(library);
        // SAFETY: a file with our descriptor has a header by that name, and the library stays.
        let plugin = unsafe { imagespec_plugin_abi::open(symbol) }.map_err(refused)?;
        let greeting = serde_json::to_string(greeting).expect("a greeting has only string keys");
        match (plugin.init())(Host { event, trace, trace_enabled }, RStr::from_str(&greeting)) {
            ROk(()) => Ok(Self { plugin }),
            RErr(error) => Err(CallError::Answered(error.into_string())),
        }
    }

    /// Runs the builder's own code as this process, as its [`Restart`](imagespec_core::builder::Restart) asked for, and
    /// gives the exit code. This must be the only thread.
    ///
    /// # Errors
    /// What the builder answered.
    pub fn start(&self, arguments: &[String]) -> Result<u8, CallError> {
        let arguments = serde_json::to_string(arguments).expect("texts are JSON");
        let answer = (self.plugin.call())(0, RStr::from_str(boundary::START), RStr::from_str(&arguments));
        let code = text(answer)?;
        Ok(code.parse().unwrap_or(u8::MAX))
    }
}

impl Door for Library {
    fn describe(&self) -> Result<String, CallError> {
        // On a thread of its own, because ours may be one of a runtime's.
        thread::scope(|scope| match scope.spawn(|| text((self.plugin.describe())())).join() {
            Ok(answer) => answer,
            Err(_) => unreachable!("a panic does not leave a plugin"),
        })
    }

    fn call(
        &self,
        operation: u64,
        method: &str,
        request: &str,
        events: &(dyn Fn(&str) + Sync),
    ) -> Result<String, CallError> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        OPERATIONS.lock().expect("nobody panics while it is held").get_or_insert_default().insert(operation, sender);
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                let answer = text((self.plugin.call())(operation, RStr::from_str(method), RStr::from_str(request)));
                let mut operations = OPERATIONS.lock().expect("nobody panics while it is held");
                operations.get_or_insert_default().remove(&operation);
                answer
            });
            // Ends when the operation is forgotten, and nobody can send any more.
            receiver.iter().for_each(|json| events(&json));
            match call.join() {
                Ok(answer) => answer,
                Err(_) => unreachable!("a panic does not leave a plugin"),
            }
        })
    }

    fn cancel(&self, operation: u64) {
        (self.plugin.cancel())(operation);
    }
}

fn text(answer: RResult<RString, RString>) -> Result<String, CallError> {
    match answer {
        ROk(text) => Ok(text.into_string()),
        RErr(text) => Err(CallError::Answered(text.into_string())),
    }
}

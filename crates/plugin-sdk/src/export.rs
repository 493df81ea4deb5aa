//! The plugin's side of the boundary, and the macro that puts a builder behind it.

use std::ffi::OsString;
use std::sync::OnceLock;

use imagespec_core::boundary::{self, CallError, Door, Greeting};
use imagespec_core::builder::{BuildError, Builder, FailureKind, Restart};
use imagespec_plugin_abi::{Host, Plugin, RErr, ROk, RResult, RStr, RString};

use crate::speaker::{Speaker, guard};
use crate::trace::Forward;

/// A builder that is exported, from when the program loads it.
pub struct Exported {
    name: &'static str,
    make: fn(Restart) -> Box<dyn Builder>,
    start: fn(&Restart, &[OsString]) -> u8,
    running: OnceLock<Running>,
}

struct Running {
    speaker: Speaker,
    host: Host,
    restart: Restart,
}

/// A type that stands for an exported builder.
pub trait Exports {
    /// The builder.
    fn exported() -> &'static Exported;
}

impl Exported {
    /// See [`export_builder`](crate::export_builder).
    pub const fn new(
        name: &'static str,
        make: fn(Restart) -> Box<dyn Builder>,
        start: fn(&Restart, &[OsString]) -> u8,
    ) -> Self {
        Self { name, make, start, running: OnceLock::new() }
    }

    fn init(&self, host: Host, greeting: &str) -> Result<(), BuildError> {
        let greeting: Greeting = serde_json::from_str(greeting).map_err(|source| {
            let error = failure("the greeting of the program is not readable");
            BuildError { causes: vec![source.to_string()], ..error }
        })?;
        let speaker = Speaker::named(self.name, (self.make)(greeting.restart.clone()));
        let running = Running { speaker, host, restart: greeting.restart };
        self.running.set(running).map_err(|_| failure("the builder was greeted twice"))?;
        Forward::install(host);
        Ok(())
    }

    fn running(&self) -> Result<&Running, CallError> {
        let error = || CallError::Answered(boundary::error_to_json(&failure("the builder was not greeted")));
        self.running.get().ok_or_else(error)
    }

    fn call(&self, operation: u64, method: &str, request: &str) -> Result<String, CallError> {
        let running = self.running()?;
        if method != boundary::START {
            let events = |json: &str| (running.host.event)(operation, RStr::from_str(json));
            return running.speaker.call(operation, method, request, &events);
        }
        let answer = guard(self.name, || {
            let arguments: Vec<String> =
                serde_json::from_str(request).map_err(|_| failure("the arguments are not readable"))?;
            let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
            Ok((self.start)(&running.restart, &arguments).to_string())
        });
        answer.map_err(|error| CallError::Answered(boundary::error_to_json(&error)))
    }
}

fn failure(message: &str) -> BuildError {
    BuildError::of(FailureKind::Internal, message)
}

/// The functions of the builder that `E` stands for.
pub const fn plugin<E: Exports>() -> Plugin {
    extern "C" fn init<E: Exports>(host: Host, greeting: RStr<'_>) -> RResult<(), RString> {
        match guard(E::exported().name, || E::exported().init(host, greeting.as_str())) {
            Ok(()) => ROk(()),
            Err(error) => RErr(boundary::error_to_json(&error).into()),
        }
    }
    extern "C" fn describe<E: Exports>() -> RResult<RString, RString> {
        result(E::exported().running().and_then(|running| running.speaker.describe()))
    }
    extern "C" fn call<E: Exports>(operation: u64, method: RStr<'_>, request: RStr<'_>) -> RResult<RString, RString> {
        result(E::exported().call(operation, method.as_str(), request.as_str()))
    }
    extern "C" fn cancel<E: Exports>(operation: u64) {
        if let Ok(running) = E::exported().running() {
            running.speaker.cancel(operation);
        }
    }
    Plugin { init: init::<E>, describe: describe::<E>, call: call::<E>, cancel: cancel::<E> }
}

fn result(answer: Result<String, CallError>) -> RResult<RString, RString> {
    match answer {
        Ok(text) => ROk(text.into()),
        Err(CallError::Answered(text)) => RErr(text.into()),
        Err(CallError::Gone(error)) => RErr(boundary::error_to_json(&error).into()),
    }
}

/// Makes the crate, which must be a `cdylib`, a file that imagespec loads.
///
/// `name` is what users choose the builder by, and must be the one that it describes itself with. `make` is called once,
/// when the file is loaded, and does no work. A builder that runs its own code in further processes, as a sandbox does,
/// keeps the [`Restart`] that it is given; `start` is what such a process then runs, with the arguments that follow
/// those of the restart, and gives its exit code.
///
/// ```ignore
/// imagespec_plugin_sdk::export_builder! { name: "mine", make: |_restart| Box::new(MyBuilder) }
/// ```
#[macro_export]
macro_rules! export_builder {
    (name: $name:literal, make: $make:expr $(,)?) => {
        $crate::export_builder! { name: $name, make: $make, start: |_restart, _arguments| 2 }
    };
    (name: $name:literal, make: $make:expr, start: $start:expr $(,)?) => {
        /// The builder of this file.
        struct ExportedBuilder;

        impl $crate::Exports for ExportedBuilder {
            fn exported() -> &'static $crate::Exported {
                static EXPORTED: $crate::Exported = $crate::Exported::new($name, $make, $start);
                &EXPORTED
            }
        }

        impl $crate::abi::Export for ExportedBuilder {
            const PLUGIN: $crate::abi::Plugin = $crate::plugin::<ExportedBuilder>();
        }

        /// What imagespec looks for when it loads this file.
        #[allow(non_upper_case_globals, unsafe_code, reason = "it is the name of a symbol, which nothing else has")]
        #[unsafe(no_mangle)]
        pub static imagespec_plugin_1: $crate::abi::LibHeader = $crate::abi::header::<ExportedBuilder>();

        /// What imagespec reads before it loads this file.
        #[allow(unsafe_code, reason = "the section holds these bytes and nothing else")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".imagespec")]
        pub static IMAGESPEC_PLUGIN_DESCRIPTOR: [u8; $crate::descriptor_length($name)] = $crate::descriptor($name);
    };
}

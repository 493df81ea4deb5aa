//! The frozen boundary between the program and a builder that it loads: four functions on one side, three on the other,
//! numbers and strings between them. All that may grow is JSON inside the strings, and none of it is here.

use abi_stable::StableAbi;
use std::ffi::c_void;

use abi_stable::library::{AbiHeaderRef, CheckTypeLayout, RootModule, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_types::VersionStrings;

pub use abi_stable::library::LibHeader;
pub use abi_stable::std_types::{RErr, ROk, RResult, RStr, RString};

/// The version of the boundary. It stands in the descriptor and in the name of the symbol.
pub const ABI_VERSION: u32 = 1;

/// The symbol of a plugin: a [`LibHeader`].
pub const SYMBOL: &str = "imagespec_plugin_1";

/// The section of a plugin's file that holds its descriptor, which is read without loading the file: a JSON object with
/// `abi`, `target`, `sdk`, `requests` and `name`.
pub const SECTION: &str = ".imagespec";

/// What the program offers to a plugin.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Host {
    /// Takes an event of an operation. From any thread.
    pub event: extern "C" fn(operation: u64, json: RStr<'_>),
    /// Takes a line for developers, that was asked for by `trace_enabled`. From any thread.
    pub trace: extern "C" fn(json: RStr<'_>),
    /// Whether anybody wants such lines: `level` is 1 for errors to 5 for traces, `target` a module's path.
    pub trace_enabled: extern "C" fn(level: u8, target: RStr<'_>) -> bool,
}

/// What a plugin offers to the program.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginRef)))]
#[sabi(missing_field(panic))]
pub struct Plugin {
    /// Called once, before anything else.
    pub init: extern "C" fn(host: Host, greeting: RStr<'_>) -> RResult<(), RString>,
    /// What the builder says of itself.
    pub describe: extern "C" fn() -> RResult<RString, RString>,
    /// Has a method done. From any thread, from several at once.
    pub call: extern "C" fn(operation: u64, method: RStr<'_>, request: RStr<'_>) -> RResult<RString, RString>,
    /// Asks for the end of an operation; it may not have begun.
    #[sabi(last_prefix_field)]
    pub cancel: extern "C" fn(operation: u64),
}

impl RootModule for PluginRef {
    abi_stable::declare_root_module_statics! {PluginRef}
    const BASE_NAME: &'static str = "imagespec_plugin";
    const NAME: &'static str = "imagespec_plugin";
    const VERSION_STRINGS: VersionStrings = abi_stable::package_version_strings!();
}

/// A type that stands for a plugin's four functions.
pub trait Export {
    /// The functions.
    const PLUGIN: Plugin;
}

/// The header of a plugin, for a static that is called [`SYMBOL`].
///
/// abi_stable's own `#[export_root_module]` gives every library the same symbol, so that two plugins could not be linked
/// into one program.
pub const fn header<E: Export>() -> LibHeader {
    extern "C" fn constructor<E: Export>() -> RootModuleResult {
        abi_stable::library::__call_root_module_loader(|| E::PLUGIN.leak_into_prefix())
    }
    // SAFETY: `constructor` gives a `PluginRef`, the root module that is named here.
    unsafe { LibHeader::from_constructor::<PluginRef>(constructor::<E>, CheckTypeLayout::Yes) }
}

/// The functions of a plugin whose [`SYMBOL`] lies at `symbol`, after the layout of everything was compared.
///
/// # Errors
/// What does not fit, in the words of abi_stable.
///
/// # Safety
/// `symbol` is the address of a [`LibHeader`] that never goes away.
pub unsafe fn open(symbol: *const c_void) -> Result<PluginRef, String> {
    // SAFETY: an `AbiHeaderRef` is a pointer to what every `LibHeader` begins with (`repr(transparent)`, `repr(C)`).
    let header: AbiHeaderRef = unsafe { std::mem::transmute::<*const c_void, AbiHeaderRef>(symbol) };
    // abi_stable's own `load_from_file` would keep one module for the type, and give the first plugin for every other.
    let module = header.upgrade().and_then(|header| header.init_root_module::<PluginRef>());
    module.map_err(|error| error.to_string())
}

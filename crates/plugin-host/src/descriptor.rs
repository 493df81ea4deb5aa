//! What a plugin's file says of itself, read from its bytes: nothing of it runs, and no loader looks at it.
//!
//! Format: ELF (System V ABI, generic and processor supplement), with the section [`SECTION`].

use imagespec_core::boundary::REQUEST_VERSION;
use imagespec_plugin_abi::{ABI_VERSION, SECTION};
use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};
use serde_json::Value;

use crate::error::PluginError;
use crate::file::PluginFile;

/// The longest descriptor that is looked at, in bytes.
const SIZE_BYTES_MAX: usize = 4096;

/// What a plugin's file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The builder's name.
    pub name: String,
    /// The version of the SDK that it was compiled with.
    pub sdk: String,
    /// What it was compiled for: `x86_64-unknown-linux-gnu`.
    pub target: String,
}

const COMPILE_AGAIN: &str = "compile the plugin again; the file may have been cut off when it was copied";
const WRITE_ONE: &str =
    "a plugin is a `cdylib` that is written with `imagespec-plugin-sdk`; see `imagespec plugin new`";
const OTHER_SDK: &str = "compile the plugin with the `imagespec-plugin-sdk` of this version";
const OTHER_MACHINE: &str = "compile the plugin on this machine, or with `--target` for it";

impl Descriptor {
    /// Reads the descriptor of `file`, and makes sure that a loader would find all of it.
    ///
    /// # Errors
    /// When it is no plugin, not whole, or not for this program or machine.
    pub fn read(file: &PluginFile) -> Result<Self, PluginError> {
        read(&file.bytes).map_err(|(reason, hint)| PluginError::NoPlugin { path: file.path.clone(), reason, hint })
    }
}

type Refusal = (String, &'static str);

fn read(bytes: &[u8]) -> Result<Descriptor, Refusal> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err(("it is no ELF file".to_owned(), WRITE_ONE));
    }
    let broken = |what: &str| (format!("it is not whole: {what}"), COMPILE_AGAIN);
    // Reads the headers of segments and sections, which lie at the beginning and at the end.
    let elf = ElfFile64::<Endianness>::parse(bytes).map_err(|error| broken(&error.to_string()))?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    if header.e_type(endian) != ET_DYN {
        return Err(("it is no shared library".to_owned(), WRITE_ONE));
    }
    let machine = match std::env::consts::ARCH {
        "x86_64" => EM_X86_64,
        "aarch64" => EM_AARCH64,
        // Its target says it, below.
        _ => header.e_machine(endian),
    };
    if header.e_machine(endian) != machine {
        return Err(("it was compiled for another processor".to_owned(), OTHER_MACHINE));
    }
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    for segment in elf.elf_program_headers() {
        // A loader maps it, and whoever touches what is not there is killed.
        let end = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        if segment.p_type(endian) == PT_LOAD && end.is_none_or(|end| end > length) {
            return Err(broken("a part of it is missing"));
        }
    }
    let section = elf.section_by_name(SECTION);
    let section = section.ok_or_else(|| (format!("it has no section `{SECTION}`"), WRITE_ONE))?;
    let text = section.data().map_err(|error| broken(&error.to_string()))?;
    descriptor(text)
}

fn descriptor(text: &[u8]) -> Result<Descriptor, Refusal> {
    let value: Option<Value> = (text.len() <= SIZE_BYTES_MAX).then(|| serde_json::from_slice(text).ok()).flatten();
    let value = value.ok_or_else(|| ("its descriptor is not readable".to_owned(), WRITE_ONE))?;
    if value["abi"] != ABI_VERSION {
        let reason =
            format!("it speaks version {} of the boundary, and this program speaks {ABI_VERSION}", value["abi"]);
        return Err((reason, OTHER_SDK));
    }
    let reads = value["requests"].as_array().is_some_and(|all| all.contains(&REQUEST_VERSION.into()));
    if !reads {
        let reason = format!(
            "it reads requests of the versions {}, and this program writes {REQUEST_VERSION}",
            value["requests"]
        );
        return Err((reason, OTHER_SDK));
    }
    let field = |name: &str| {
        let text = value[name]
            .as_str()
            .filter(|text| !text.is_empty() && text.chars().all(|character| character.is_ascii_graphic()));
        text.map(str::to_owned).ok_or_else(|| (format!("its descriptor has no `{name}`"), WRITE_ONE))
    };
    let descriptor = Descriptor { name: field("name")?, sdk: field("sdk")?, target: field("target")? };
    // `x86_64-unknown-linux-musl` would load, and bring a C library of its own.
    let own =
        format!("{}-unknown-linux-{}", std::env::consts::ARCH, if cfg!(target_env = "musl") { "musl" } else { "gnu" });
    if descriptor.target != own {
        return Err((
            format!("it was compiled for `{}`, and this program for `{own}`", descriptor.target),
            OTHER_MACHINE,
        ));
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        descriptor(text.as_bytes()).expect_err("it is refused").0
    }

    #[test]
    fn a_descriptor_of_another_boundary_target_or_shape_is_refused() {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let good = format!(r#"{{"abi":1,"requests":[1],"target":"{target}","sdk":"9.9.9","name":"x","later":[]}}"#);
        let read = descriptor(good.as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.sdk.as_str(), read.target), ("x", "9.9.9", target.clone()));
        insta::assert_snapshot!(refused(&good.replace("\"abi\":1", "\"abi\":2")), @"it speaks version 2 of the boundary, and this program speaks 1");
        insta::assert_snapshot!(refused(&good.replace("[1]", "[2,3]")), @"it reads requests of the versions [2,3], and this program writes 1");
        insta::assert_snapshot!(refused(&good.replace("\"x\"", "\"\\u001b\"")), @"its descriptor has no `name`");
        insta::assert_snapshot!(refused("{"), @"its descriptor is not readable");
        insta::assert_snapshot!(refused("[]"), @"it speaks version null of the boundary, and this program speaks 1");
        let other = refused(&good.replace(&target, "riscv64gc-unknown-linux-gnu"));
        assert!(
            other.starts_with("it was compiled for `riscv64gc-unknown-linux-gnu`, and this program for "),
            "{other}"
        );
    }
}

//! Whether this machine runs the programs of a platform: by itself, or by an emulator that its kernel knows of.

use std::fs;
use std::path::Path;

use imagespec_core::platform::Platform;

/// Where the kernel lists its emulators (Linux, Documentation/admin-guide/binfmt-misc.rst).
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// An image whose programs this machine cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the image is for `{image}`, this machine is `{machine}`, and its kernel knows no emulator for the other")]
pub struct CannotExecute {
    /// What the image is for.
    pub image: Platform,
    /// What this machine is.
    pub machine: Platform,
}

impl CannotExecute {
    /// What the user may do about it.
    pub fn hint(&self) -> String {
        format!(
            "take an image for `{}`, or install an emulator: Debian's packages qemu-user-static and binfmt-support",
            self.machine
        )
    }
}

/// The platform of this machine; nothing of one that has no name as a platform.
pub(crate) fn machine() -> Option<Platform> {
    Platform::of_machine(std::env::consts::ARCH).ok()
}

/// Checks that programs of `image` run on `machine`, the platform of this program.
///
/// # Errors
/// When they do not.
pub(crate) fn check(image: &Platform, machine: &Platform) -> Result<(), CannotExecute> {
    if image.runs_on(machine.machine()) || has_emulator(Path::new(HANDLERS), image) {
        return Ok(());
    }
    Err(CannotExecute { image: image.clone(), machine: machine.clone() })
}

fn has_emulator(handlers: &Path, image: &Platform) -> bool {
    let read = |name: &str| fs::read_to_string(handlers.join(name));
    let is_on = read("status").is_ok_and(|status| status.trim() == "enabled");
    let Some(header) = elf_header(image).filter(|_| is_on) else { return false };
    let names = fs::read_dir(handlers).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| read(name.to_str()?).ok()).any(|text| takes(&text, &header))
}

/// Whether a handler is given programs that begin with `header`. Its emulator must be held open by the kernel (flag
/// `F`), or it would be looked for inside the image.
fn takes(handler: &str, header: &[u8]) -> bool {
    let mut lines = handler.lines();
    let is_enabled = lines.next() == Some("enabled");
    let value = |name: &str| handler.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = value("flags:").unwrap_or_default();
    let offset = value("offset ").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let Some(magic) = value("magic ").and_then(|text| hex::decode(text).ok()) else { return false };
    let mask = value("mask ").and_then(|text| hex::decode(text).ok()).unwrap_or_else(|| vec![0xff; magic.len()]);
    let Some(found) = header.get(offset..offset.saturating_add(magic.len())) else { return false };
    let is_same = found.iter().zip(&magic).zip(&mask).all(|((found, magic), mask)| (found ^ magic) & mask == 0);
    is_enabled && flags.contains('F') && mask.len() == magic.len() && is_same
}

/// How a program of `platform` begins: the ELF header up to `e_machine` (System V ABI, "ELF Header").
fn elf_header(platform: &Platform) -> Option<[u8; 20]> {
    let (class, order, machine): (u8, u8, u16) = match platform.architecture() {
        "amd64" => (2, 1, 62),
        "386" => (1, 1, 3),
        "arm64" => (2, 1, 183),
        "arm" => (1, 1, 40),
        "ppc64le" => (2, 1, 21),
        "s390x" => (2, 2, 22),
        "riscv64" => (2, 1, 243),
        "loong64" => (2, 1, 258),
        _ => return None,
    };
    let number = |value: u16| if order == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
    let mut header = [0; 20];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
    header[16..18].copy_from_slice(&number(2));
    header[18..].copy_from_slice(&number(machine));
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's qemu-user-static registers it.
    const QEMU_AARCH64: &str = "\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
";

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    fn emulates(handler: &str, status: &str, image: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("status"), status).unwrap();
        fs::write(folder.path().join("register"), "").unwrap();
        fs::write(folder.path().join("qemu"), handler).unwrap();
        has_emulator(folder.path(), &platform(image))
    }

    #[test]
    fn the_error_names_both_platforms_and_the_way_out() {
        let error = CannotExecute { image: "linux/arm64".parse().unwrap(), machine: Platform::linux_amd64() };
        insta::assert_snapshot!(format!("{error}\n{}", error.hint()), @"
        the image is for `linux/arm64`, this machine is `linux/amd64`, and its kernel knows no emulator for the other
        take an image for `linux/amd64`, or install an emulator: Debian's packages qemu-user-static and binfmt-support
        ");
    }

    #[test]
    fn an_emulator_counts_for_its_own_processor_and_while_it_is_on() {
        assert!(emulates(QEMU_AARCH64, "enabled\n", "linux/arm64"));
        assert!(!emulates(QEMU_AARCH64, "enabled\n", "linux/s390x"));
        assert!(!emulates(QEMU_AARCH64, "enabled\n", "linux/arm/v7"));
        assert!(!emulates(QEMU_AARCH64, "disabled\n", "linux/arm64"));
        assert!(!emulates(&QEMU_AARCH64.replace("enabled", "disabled"), "enabled\n", "linux/arm64"));
        assert!(!emulates(&QEMU_AARCH64.replace("POCF", "POC"), "enabled\n", "linux/arm64"));
        assert!(!emulates("enabled\ninterpreter /usr/bin/python3\nextension .pyc\n", "enabled\n", "linux/arm64"));
        assert!(!has_emulator(Path::new("/nonexistent"), &platform("linux/arm64")));
    }

    #[test]
    fn a_machine_runs_its_own_programs() {
        assert_eq!(check(&platform("linux/amd64"), &platform("linux/amd64")), Ok(()));
        assert_eq!(check(&platform("linux/386"), &platform("linux/amd64")), Ok(()));
    }
}

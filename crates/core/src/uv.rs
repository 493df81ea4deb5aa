//! The uv that is fetched where one is needed: its version, and where its wheels lie. Pure data.

use crate::digest::Digest;

/// Its version.
pub const UV_VERSION: &str = "0.13.9";

/// A wheel of uv, by the machine that runs it. It is linked statically, so that it runs in any image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedUv {
    /// The processor as the kernel calls it: `x86_64`, `aarch64`.
    pub machine: &'static str,
    folder: &'static str,
    /// Name of the wheel.
    pub file_name: &'static str,
    /// Its sha256, in hexadecimal digits.
    pub sha256: &'static str,
    /// Its length in bytes.
    pub size_bytes: u64,
}

const PINNED: [PinnedUv; 2] = [
    PinnedUv {
        machine: "x86_64",
        folder: "fe/fe/794884de0efd3ac77a427cab21aa72c0483e100c55a42cd5cbb02c141b84",
        file_name: "uv-0.13.9-py3-none-musllinux_1_1_x86_64.whl",
        sha256: "2c45530751517d6c3bbc69a19473f6effe47cce047bede01ffd8af7ea7b36b25",
        size_bytes: 19_295_638,
    },
    PinnedUv {
        machine: "aarch64",
        folder: "57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b",
        file_name: "uv-0.13.9-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        sha256: "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
        size_bytes: 18_026_789,
    },
];

impl PinnedUv {
    /// The one for `machine`.
    pub fn of(machine: &str) -> Option<&'static Self> {
        PINNED.iter().find(|pinned| pinned.machine == machine)
    }

    /// Digest of the wheel.
    pub fn digest(&self) -> Digest {
        Digest::from_hex(self.sha256).expect("the pinned digest is one")
    }

    /// Where the wheel lies.
    pub fn url(&self) -> String {
        format!("https://files.pythonhosted.org/packages/{}/{}", self.folder, self.file_name)
    }

    /// Path of the program in the wheel.
    pub fn member(&self) -> String {
        format!("uv-{UV_VERSION}.data/scripts/uv")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wheel_is_of_the_version_and_for_its_machine() {
        for machine in ["x86_64", "aarch64"] {
            let pinned = PinnedUv::of(machine).unwrap();
            assert!(pinned.file_name.starts_with(&format!("uv-{UV_VERSION}-")), "{}", pinned.file_name);
            assert!(pinned.file_name.ends_with(&format!("{machine}.whl")), "{}", pinned.file_name);
            assert_eq!(pinned.digest().to_hex(), pinned.sha256);
            assert!(pinned.url().starts_with("https://files.pythonhosted.org/packages/"));
        }
        assert_eq!(PinnedUv::of("s390x"), None);
    }
}

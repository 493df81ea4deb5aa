//! Wheel file names and the tags that say where a wheel runs. Pure.
//!
//! Formats: PEP 427 ("File name convention"), PEP 425 (tags), PEP 600 (manylinux), PEP 656 (musllinux). Tags rank as
//! pip and uv rank them, so that the same wheel is chosen.

use std::cmp::Reverse;
use std::fmt;

/// The name of a wheel file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    text: String,
    distribution: String,
    version: String,
    build: Option<Build>,
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// A build tag sorts by its number, then by what follows (PEP 427).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Build {
    number: u64,
    suffix: String,
}

/// Text that is no name of a wheel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no wheel file name: {problem}", .text.escape_debug())]
pub struct InvalidWheelName {
    text: String,
    problem: &'static str,
}

/// The C library of a base, in the version that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// glibc 2.MINOR.
    Glibc {
        /// The number after `2.`.
        minor: u16,
    },
    /// musl 1.MINOR.
    Musl {
        /// The number after `1.`.
        minor: u16,
    },
}

/// Where wheels are to run: CPython 3 on Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The number after `3.` of the Python version.
    pub python_minor: u16,
    /// The number after that; markers may ask for it.
    pub python_patch: u16,
    /// The processor as the kernel names it: `x86_64`, `aarch64`.
    pub machine: String,
    /// The C library.
    pub libc: Libc,
}

/// How well a wheel fits; the smallest fits best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    group: u16,
    platform: u16,
}

impl WheelName {
    /// Takes the name of a wheel file apart.
    ///
    /// # Errors
    /// When it has not the five or six parts of PEP 427, or characters that none of them may have.
    pub fn new(text: &str) -> Result<Self, InvalidWheelName> {
        let invalid = |problem| InvalidWheelName { text: text.chars().take(300).collect(), problem };
        let stem = text.strip_suffix(".whl").ok_or_else(|| invalid("it does not end in `.whl`"))?;
        if text.len() > 255 {
            return Err(invalid("it has more than 255 bytes"));
        }
        if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+!".contains(&byte)) {
            return Err(invalid("only letters, digits and `-_.+!` may stand in it"));
        }
        let parts: Vec<&str> = stem.split('-').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(invalid("a part of it is empty"));
        }
        let (distribution, version, build, python, abi, platform) = match *parts.as_slice() {
            [distribution, version, python, abi, platform] => (distribution, version, None, python, abi, platform),
            [distribution, version, build, python, abi, platform] => {
                (distribution, version, Some(build), python, abi, platform)
            }
            _ => return Err(invalid("it has not five or six parts between `-`")),
        };
        let build = match build {
            Some(build) => Some(Build::new(build).ok_or_else(|| invalid("its build tag does not begin with a digit"))?),
            None => None,
        };
        let split = |tags: &str| tags.split('.').map(str::to_ascii_lowercase).collect();
        Ok(Self {
            text: text.to_owned(),
            distribution: distribution.to_owned(),
            version: version.to_owned(),
            build,
            pythons: split(python),
            abis: split(abi),
            platforms: split(platform),
        })
    }

    /// The whole file name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The distribution's name as the file name has it.
    pub fn distribution(&self) -> &str {
        &self.distribution
    }

    /// The distribution's normalised name (PEP 503): lower case, `-` for every run of `-`, `_` and `.`.
    pub fn normalized(&self) -> String {
        normalize(&self.distribution)
    }

    /// The version as the file name has it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How well the wheel fits `target`; `None` if it does not run there.
    pub fn rank(&self, target: &Target) -> Option<Rank> {
        let mut best: Option<Rank> = None;
        for python in &self.pythons {
            for abi in &self.abis {
                for platform in &self.platforms {
                    let rank = target.rank(python, abi, platform);
                    best = [best, rank].into_iter().flatten().min();
                }
            }
        }
        best
    }
}

impl fmt::Display for WheelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Python 3.{} on {} with ", self.python_minor, self.machine)?;
        match self.libc {
            Libc::Glibc { minor } => write!(formatter, "glibc 2.{minor}"),
            Libc::Musl { minor } => write!(formatter, "musl 1.{minor}"),
        }
    }
}

/// The wheel that fits `target` best; of equals the one of the highest build. `None` if none runs there.
pub fn best<'a, T>(wheels: &'a [T], name: impl Fn(&'a T) -> &'a WheelName, target: &Target) -> Option<&'a T> {
    wheels
        .iter()
        .filter_map(|wheel| {
            let rank = name(wheel).rank(target)?;
            Some(((rank, Reverse(&name(wheel).build)), wheel))
        })
        .min_by(|left, right| left.0.cmp(&right.0))
        .map(|(_, wheel)| wheel)
}

/// A distribution's name in its normal form (PEP 503).
pub(super) fn normalize(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(character.to_ascii_lowercase());
        }
    }
    normal
}

impl Build {
    fn new(text: &str) -> Option<Self> {
        let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        Some(Self { number: text[..digits].parse().ok()?, suffix: text[digits..].to_owned() })
    }
}

impl Target {
    /// Groups in the order of PEP 425's reference implementation; within a group the newest platform comes first.
    fn rank(&self, python: &str, abi: &str, platform: &str) -> Option<Rank> {
        let minor = self.python_minor;
        let own = format!("cp3{minor}");
        if platform == "any" {
            let group = match python {
                _ if abi != "none" => return None,
                "py3" => 402,
                _ if python == own => 400,
                _ => match pure_minor(python)? {
                    other if other == minor => 401,
                    other if other < minor => 403 + (minor - other),
                    _ => return None,
                },
            };
            return Some(Rank { group, platform: 0 });
        }
        let platform = self.platform_rank(platform)?;
        let group = match abi {
            _ if abi == own && python == own => 0,
            "abi3" => match c_minor(python)? {
                other if other == minor => 1,
                other if (2..minor).contains(&other) => 2 + (minor - other),
                _ => return None,
            },
            "none" if python == own => 2,
            "none" if python == "py3" => 201,
            "none" => match pure_minor(python)? {
                other if other == minor => 200,
                other if other < minor => 201 + (minor - other),
                _ => return None,
            },
            _ => return None,
        };
        Some(Rank { group, platform })
    }

    fn platform_rank(&self, tag: &str) -> Option<u16> {
        let family = tag.strip_suffix(self.machine.as_str())?.strip_suffix('_')?;
        if family == "linux" {
            return Some(u16::MAX);
        }
        match self.libc {
            Libc::Glibc { minor } => {
                let intel = matches!(self.machine.as_str(), "x86_64" | "i686");
                // An alias stands right behind the tag that it means.
                let (wanted, alias) = match family {
                    "manylinux2014" => (17, 1),
                    "manylinux2010" if intel => (12, 1),
                    "manylinux1" if intel => (5, 1),
                    _ => (family.strip_prefix("manylinux_2_")?.parse::<u16>().ok()?, 0),
                };
                let oldest = if intel { 5 } else { 17 };
                (oldest..=minor).contains(&wanted).then(|| minor.saturating_sub(wanted).saturating_mul(2) + alias)
            }
            Libc::Musl { minor } => {
                let wanted = family.strip_prefix("musllinux_1_")?.parse::<u16>().ok()?;
                (wanted <= minor).then(|| minor - wanted)
            }
        }
    }
}

/// N of `py3N`.
fn pure_minor(tag: &str) -> Option<u16> {
    minor_after(tag.strip_prefix("py3")?)
}

/// N of `cp3N`.
fn c_minor(tag: &str) -> Option<u16> {
    minor_after(tag.strip_prefix("cp3")?)
}

fn minor_after(digits: &str) -> Option<u16> {
    // Two digits at most: ranks must not run from one group into the next.
    (digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bookworm() -> Target {
        Target { python_minor: 11, python_patch: 2, machine: "x86_64".to_owned(), libc: Libc::Glibc { minor: 36 } }
    }

    fn chosen(target: &Target, names: &[&str]) -> String {
        let names: Vec<_> = names.iter().map(|name| WheelName::new(name).unwrap()).collect();
        best(&names, |name| name, target).map_or("none".to_owned(), ToString::to_string)
    }

    #[test]
    fn a_name_is_taken_apart() {
        let name = WheelName::new("Foo.Bar_baz-1.0+cu118-2b-py2.py3-none-any.whl").unwrap();
        assert_eq!((name.distribution(), name.version()), ("Foo.Bar_baz", "1.0+cu118"));
        assert_eq!(name.normalized(), "foo-bar-baz");
        assert_eq!(name.build, Some(Build { number: 2, suffix: "b".to_owned() }));
        assert_eq!(name.pythons, ["py2", "py3"]);
    }

    #[test]
    fn what_is_no_wheel_name_is_refused() {
        for text in [
            "",
            ".whl",
            "a.whl",
            "a-1-py3-none.whl",
            "a-1-x-py3-none-any.whl",
            "a-1-2-3-py3-none-any.whl",
            "a--py3-none-any.whl",
            "../a-1-py3-none-any.whl",
            "a/b-1-py3-none-any.whl",
            "a-1-py3-none-any.tar.gz",
            "a-1\n-py3-none-any.whl",
        ] {
            assert!(WheelName::new(text).is_err(), "{text:?}");
        }
        insta::assert_snapshot!(WheelName::new("a-1-py3-none.whl").unwrap_err(), @"`a-1-py3-none.whl` is no wheel file name: it has not five or six parts between `-`");
    }

    #[test]
    fn the_newest_platform_that_the_base_has_is_chosen() {
        let names = [
            "numpy-2.1.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "numpy-2.1.3-cp311-cp311-manylinux_2_28_x86_64.whl",
            "numpy-2.1.3-cp311-cp311-manylinux_2_39_x86_64.whl",
            "numpy-2.1.3-cp311-cp311-musllinux_1_2_x86_64.whl",
            "numpy-2.1.3-cp312-cp312-manylinux_2_17_x86_64.whl",
            "numpy-2.1.3-cp311-cp311-manylinux_2_17_aarch64.whl",
            "numpy-2.1.3-cp311-cp311-win_amd64.whl",
        ];
        assert_eq!(chosen(&bookworm(), &names), names[1]);
        let arm = Target { machine: "aarch64".to_owned(), ..bookworm() };
        assert_eq!(chosen(&arm, &names), names[5]);
        let alpine = Target { libc: Libc::Musl { minor: 2 }, ..bookworm() };
        assert_eq!(chosen(&alpine, &names), names[3]);
        assert_eq!(chosen(&Target { python_minor: 13, ..bookworm() }, &names), "none");
    }

    #[test]
    fn a_compiled_wheel_comes_before_a_stable_one_and_that_before_a_pure_one() {
        let names = [
            "a-1-py3-none-any.whl",
            "a-1-py2.py3-none-manylinux1_x86_64.whl",
            "a-1-cp38-abi3-manylinux2014_x86_64.whl",
            "a-1-cp39-abi3-manylinux2014_x86_64.whl",
            "a-1-cp311-cp311-linux_x86_64.whl",
        ];
        for end in (1..=names.len()).rev() {
            assert_eq!(chosen(&bookworm(), &names[..end]), names[end - 1]);
        }
    }

    #[test]
    fn what_runs_elsewhere_is_never_chosen() {
        let names = [
            "a-1-py2-none-any.whl",
            "a-1-py312-none-any.whl",
            "a-1-cp311-cp311t-manylinux_2_28_x86_64.whl",
            "a-1-cp312-abi3-manylinux_2_28_x86_64.whl",
            "a-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl",
            "a-1-py3-none-macosx_11_0_x86_64.whl",
            "a-1-py3-none-manylinux_2_65535_x86_64.whl",
            "a-1-py3-none-manylinux_3_1_x86_64.whl",
            "a-1-cp310-none-any.whl",
        ];
        assert_eq!(chosen(&bookworm(), &names), "none");
    }

    #[test]
    fn of_equal_tags_the_highest_build_wins_and_none_is_the_lowest() {
        let names = ["a-1-py3-none-any.whl", "a-1-9-py3-none-any.whl", "a-1-10-py3-none-any.whl"];
        assert_eq!(chosen(&bookworm(), &names), names[2]);
        assert_eq!(chosen(&bookworm(), &names[..2]), names[1]);
    }
}

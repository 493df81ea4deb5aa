//! The scripts of ours that run while an image is built. They are files of a context, which no layer holds, and look for each
//! other and for what they need beneath `/dev/imagespec`.

/// What the exit code of a step means, where it is none of the program that the step is for. The script says the same in
/// one line that begins with `imagespec: `.
pub mod exit_code {
    /// The base has no apt-get, and `apt_packages` needs a Debian or an Ubuntu.
    pub const NO_APT: i32 = 90;
    /// The base has no Python, nor has its apt, and no `python_version` says which one to fetch.
    pub const NO_PYTHON: i32 = 91;
    /// What `python_exec` names is no Python.
    pub const NOT_AT: i32 = 92;
    /// It is one of another version than `python_version`, or one that was fetched does not run on the base.
    pub const OTHER_VERSION: i32 = 93;
    /// There is no uv for the processor that runs the step.
    pub const NO_UV: i32 = 94;
    /// Where a secret is to lie, the image has something.
    pub const SECRET_OCCUPIED: i32 = 95;
    /// Conda packages cannot be had or do not fit together.
    pub const CONDA: i32 = 96;
}

const PREPARE: &str = include_str!("scripts/prepare.sh");
const APT: &str = include_str!("scripts/apt.sh");
const UV: &str = include_str!("scripts/uv.sh");
const SECRETS: &str = include_str!("scripts/secrets.sh");

/// Installs Debian packages.
pub(super) fn apt(timestamp: u64) -> String {
    let date = format!("\nexport SOURCE_DATE_EPOCH={timestamp}\n");
    [PREPARE, &date, APT, include_str!("scripts/install.sh")].concat()
}

/// Finds or brings a Python, and makes the environment over it.
pub fn python(timestamp: u64) -> String {
    let date = format!("\nexport SOURCE_DATE_EPOCH={timestamp}\n");
    [PREPARE, &date, APT, UV, include_str!("scripts/python.sh")].concat()
}

/// Installs Python packages.
pub fn pip() -> String {
    [PREPARE, UV, SECRETS, include_str!("scripts/pip.sh")].concat()
}

/// Installs conda packages.
pub fn conda() -> String {
    [PREPARE, APT, UV, include_str!("scripts/conda.sh")].concat()
}

/// Runs a command that may read secrets.
pub(super) fn command() -> String {
    let head = "# Runs while the image is built. What lies beneath /dev/imagespec reaches no layer: /dev is memory of the build.\nset -eu\n";
    [head, SECRETS, include_str!("scripts/command.sh")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_scripts() {
        let python = python(0);
        for (script, code) in [
            (apt(0), exit_code::NO_APT),
            (python.clone(), exit_code::NO_PYTHON),
            (python.clone(), exit_code::NOT_AT),
            (python.clone(), exit_code::OTHER_VERSION),
            (python, exit_code::NO_UV),
        ] {
            assert!(script.contains(&format!("fail {code} ")), "{code}");
        }
        assert!(include_str!("scripts/conda.py").contains(&format!("FAILED = {}\n", exit_code::CONDA)));
        assert!(command().contains(&format!("exit {}\n", exit_code::SECRET_OCCUPIED)));
    }
}

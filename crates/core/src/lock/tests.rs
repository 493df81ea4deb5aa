//! Lock files: their text, what of a spec they pin, and what moved away from them.

use super::*;
use crate::plan::{AptStep, ImageConfig, PipInput, PipStep, PythonStep, Requirement, Step};
use crate::reference::Reference;

const DIGEST: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

fn requirements(texts: &[&str]) -> PipStep {
    let requirement = |text: &&str| Requirement { text: (*text).to_owned(), hashes: [].into() };
    let requirements = texts.iter().map(requirement).collect();
    PipStep {
        input: PipInput::Requirements { requirements, constraints: [].into() },
        index: None,
        extra_indexes: vec!["https://one.test/simple".to_owned(), "https://two.test/simple".to_owned()],
        find_links: Vec::new(),
        extra_args: Vec::new(),
        secrets: Vec::new(),
    }
}

/// A spec with packages on one with Debian packages on an image in a registry.
fn plan() -> Plan {
    let platforms = ["linux/amd64", "linux/arm64"].map(|platform| platform.parse().unwrap());
    let debs = LockedDeb {
        name: "jq".to_owned(),
        version: "1:1.6-2.1+deb12u1".to_owned(),
        architecture: "amd64".to_owned(),
        location: "http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1%2bdeb12u1_amd64.deb".to_owned(),
        sha256: digest(),
        size: 64904,
    };
    let beneath = LockedImage {
        base: Some(LockedBase::Registry { digest: digest() }),
        apt: vec![debs],
        ..LockedImage::default()
    };
    let wheel = LockedArchive {
        name: None,
        url: "https://x.test/idna-3.20-py3-none-any.whl".to_owned(),
        size: Some(3),
        subdirectory: None,
        sha256: digest(),
    };
    let package = LockedPackage {
        name: "idna".to_owned(),
        version: Some("3.20".to_owned()),
        vcs: None,
        archive: None,
        sdist: None,
        wheels: vec![wheel],
    };
    let image = LockedImage { python: Some("3.11.2".to_owned()), packages: vec![package], ..LockedImage::default() };
    let every =
        |image: &LockedImage| platforms.iter().map(|platform: &Platform| (platform.clone(), image.clone())).collect();
    let nested = Plan {
        platforms: platforms.clone().into(),
        base: Base::Registry("debian:12".parse::<Reference>().unwrap()),
        steps: vec![Step::Apt(AptStep { packages: ["jq".to_owned()].into() })],
        config: ImageConfig::default(),
        lock: every(&beneath),
    };
    let python = PythonStep { version: None, executable: None };
    Plan {
        platforms: platforms.clone().into(),
        base: Base::Plan(Box::new(nested)),
        steps: vec![Step::Python(python), Step::Pip(requirements(&["idna"]))],
        config: ImageConfig::default(),
        lock: every(&image),
    }
}

fn unlocked() -> Plan {
    let mut plan = plan();
    plan.lock.clear();
    if let Base::Plan(nested) = &mut plan.base {
        nested.lock.clear();
    }
    plan
}

/// What is different in the plan after `change`.
fn moved(change: impl FnOnce(&mut Plan)) -> Vec<String> {
    let mut plan = unlocked();
    change(&mut plan);
    match Lock::of(&self::plan()).apply(&mut plan, "app.yaml.lock") {
        Ok(()) => Vec::new(),
        Err(error) => error.changes().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_lock_is_written_in_an_order_that_is_good_to_compare_and_comes_back() {
    let text = Lock::of(&plan()).to_toml();
    insta::assert_snapshot!(text, @r#"
    # What the image is made of. `imagespec lock` writes this file and `imagespec build --locked` builds of it.
    version = 1

    [spec]
    base_image = ["a spec"]
    "base_image.apt_packages" = ["jq"]
    "base_image.base_image" = ["docker.io/library/debian:12"]
    packages = ["idna"]
    pip_extra_index_url = [
        "https://one.test/simple",
        "https://two.test/simple",
    ]
    platform = [
        "linux/amd64",
        "linux/arm64",
    ]
    python_version = ["any"]

    [[image]]
    platform = "linux/amd64"
    python = "3.11.2"

    [[image.packages]]
    name = "idna"
    version = "3.20"

    [[image.packages.wheels]]
    url = "https://x.test/idna-3.20-py3-none-any.whl"
    size = 3
    sha256 = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    [[image]]
    platform = "linux/arm64"
    python = "3.11.2"

    [[image.packages]]
    name = "idna"
    version = "3.20"

    [[image.packages.wheels]]
    url = "https://x.test/idna-3.20-py3-none-any.whl"
    size = 3
    sha256 = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    [[image]]
    platform = "linux/amd64"
    level = 1

    [image.base]
    kind = "registry"
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    [[image.apt]]
    name = "jq"
    version = "1:1.6-2.1+deb12u1"
    architecture = "amd64"
    location = "http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1%2bdeb12u1_amd64.deb"
    sha256 = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    size = 64904

    [[image]]
    platform = "linux/arm64"
    level = 1

    [image.base]
    kind = "registry"
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

    [[image.apt]]
    name = "jq"
    version = "1:1.6-2.1+deb12u1"
    architecture = "amd64"
    location = "http://deb.debian.org/debian/pool/main/j/jq/jq_1.6-2.1%2bdeb12u1_amd64.deb"
    sha256 = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    size = 64904
    "#);
    let lock = Lock::parse("app.yaml.lock", text.as_bytes()).unwrap();
    let mut plan = unlocked();
    lock.apply(&mut plan, "app.yaml.lock").unwrap();
    assert_eq!(plan, self::plan());
    assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan);
}

#[test]
fn what_moved_is_told_field_by_field() {
    assert_eq!(moved(|_| ()), Vec::<String>::new());
    let packages = moved(|plan| plan.steps[1] = Step::Pip(requirements(&["idna>=3", "pandas"])));
    assert_eq!(packages, ["`packages` gained `idna>=3`", "`packages` gained `pandas`", "`packages` lost `idna`"]);
    let base = moved(|plan| {
        if let Base::Plan(nested) = &mut plan.base {
            nested.base = Base::Registry("debian:13".parse().unwrap());
            nested.steps.clear();
        }
    });
    insta::assert_snapshot!(base.join("\n"), @"
    `base_image.apt_packages` lost `jq`
    `base_image.base_image` gained `docker.io/library/debian:13`
    `base_image.base_image` lost `docker.io/library/debian:12`
    ");
    let order = moved(|plan| {
        if let Step::Pip(step) = &mut plan.steps[1] {
            step.extra_indexes.reverse();
        }
    });
    assert_eq!(order, ["`pip_extra_index_url` has another order"]);
    let further = moved(|plan| plan.platforms.extend(["linux/s390x".parse().unwrap()]));
    assert_eq!(further, ["`platform` gained `linux/s390x`"]);
}

#[test]
fn files_commands_and_config_may_change_and_platforms_be_fewer() {
    let mut plan = unlocked();
    plan.config.env.insert("DEBUG".to_owned(), "1".to_owned());
    plan.steps.push(Step::Run(crate::plan::RunStep { commands: vec!["make".to_owned()], secrets: Vec::new() }));
    plan.platforms = [Platform::linux_amd64()].into();
    if let Base::Plan(nested) = &mut plan.base {
        nested.platforms = [Platform::linux_amd64()].into();
    }
    Lock::of(&self::plan()).apply(&mut plan, "app.yaml.lock").unwrap();
    assert_eq!(plan.lock.len(), 1);
}

/// The error of the lock file with `before` replaced by `after`.
fn broken(before: &str, after: &str) -> String {
    let text = Lock::of(&plan()).to_toml();
    assert!(text.contains(before), "{before}");
    let error = Lock::parse("app.yaml.lock", text.replacen(before, after, 1).as_bytes()).unwrap_err();
    let place = error.place().map(|place| format!(" at {}:{}", place.line, place.column)).unwrap_or_default();
    format!("{error}{place}")
}

#[test]
fn what_is_no_lock_is_told_with_its_place() {
    insta::assert_snapshot!(broken("version = 1", "version = 2"), @"lock file `app.yaml.lock` has version 2, and this program reads version 1");
    insta::assert_snapshot!(broken("version = 1", ""), @"cannot read lock file `app.yaml.lock`: missing field `version` at 1:1");
    insta::assert_snapshot!(broken("[spec]", "[spec"), @"cannot read lock file `app.yaml.lock`: unclosed table, expected `]` at 4:6");
    insta::assert_snapshot!(broken(DIGEST, "md5:0"), @"cannot read lock file `app.yaml.lock`: `md5:0` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits at 30:10");
    insta::assert_snapshot!(broken("\"jq\"\nversion", "\"../jq\"\nversion"), @"cannot read lock file `app.yaml.lock`: `../jq` is not the name of a Debian package at 54:8");
    insta::assert_snapshot!(broken("1:1.6-2.1+deb12u1", "1 $(reboot)"), @"cannot read lock file `app.yaml.lock`: `1 $(reboot)` is not a version or an architecture of Debian at 55:11");
    insta::assert_snapshot!(broken("http://deb.debian.org/debian/pool", "debian/../pool"), @"cannot read lock file `app.yaml.lock`: `debian/../pool/main/j/jq/jq_1.6-2.1%2bdeb12u1_amd64.deb` is not an address or a path in Debian's archive at 57:12");
    insta::assert_snapshot!(broken("size = 64904", "size = -1"), @"cannot read lock file `app.yaml.lock`: invalid value: integer `-1`, expected u64 at 59:8");
    insta::assert_snapshot!(broken("linux/arm64\"\nlevel", "linux/amd64\"\nlevel"), @"lock file `app.yaml.lock` has two entries for linux/amd64");
    insta::assert_snapshot!(broken("linux/arm64\"\nlevel", "solaris\"\nlevel"), @"cannot read lock file `app.yaml.lock`: unknown platform `solaris` at 62:12");
    insta::assert_snapshot!(broken("3.11.2", "--help"), @"cannot read lock file `app.yaml.lock`: `--help` is not a version of Python at 21:10");
    let conda = |name: &str, subdir: &str| {
        let package = format!(
            "[[image.conda]]\nname = \"{name}\"\nversion = \"1!0.1+x\"\nbuild = \"\"\nsubdir = \"{subdir}\"\nurl = \"https://x.test/a\"\nsha256 = \"{DIGEST}\"\n"
        );
        Lock::parse("x", format!("{}{package}", Lock::of(&plan()).to_toml()).as_bytes())
            .map_err(|error| error.to_string())
    };
    assert_eq!(conda("_libgcc_mutex", "linux-64").map(drop), Ok(()));
    insta::assert_snapshot!(conda("../a", "noarch").unwrap_err(), @"cannot read lock file `x`: `../a` is not a name or a version of conda");
    insta::assert_snapshot!(conda("a", "/etc").unwrap_err(), @"cannot read lock file `x`: `/etc` is not a name or a version of conda");
    let text = Lock::of(&plan()).to_toml();
    let (outer, _) = text.rsplit_once("[[image]]").unwrap();
    let error =
        Lock::parse("app.yaml.lock", outer.as_bytes()).unwrap().apply(&mut unlocked(), "app.yaml.lock").unwrap_err();
    insta::assert_snapshot!(error, @"lock file `app.yaml.lock` is not whole: an image for linux/arm64 is missing");
    assert!(matches!(Lock::parse("x", b"\xff"), Err(LockError::NotText { .. })));
}

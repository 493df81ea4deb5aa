//! Tests of hashes: the vectors of docs/hash.md, and what changes a hash.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::plan::{SecretMount, SecretTarget};
use crate::spec::{BaseImage, SourceCopyMode};
use crate::testing::{Project, at, copies, on_scratch, some, text, texts};

const DOCUMENT: &str = include_str!("../../../../docs/hash.md");

/// The test vectors of `docs/hash.md`: title, plan and hash.
fn vectors() -> Vec<(String, String, String)> {
    let mut vectors = Vec::new();
    let mut title = String::new();
    let mut block: Option<String> = None;
    for line in DOCUMENT.lines() {
        match (&mut block, line) {
            (None, "```json plan") => block = Some(String::new()),
            (Some(_), "```") => {
                let json = block.take().unwrap();
                vectors.push((title.clone(), json, String::new()));
            }
            (Some(json), line) => json.push_str(line),
            (None, line) => {
                if let Some(heading) = line.strip_prefix("### ") {
                    title = heading.to_owned();
                }
                if let Some(hash) = line.strip_prefix("spec hash: `") {
                    vectors.last_mut().unwrap().2 = hash.trim_end_matches('`').to_owned();
                }
            }
        }
    }
    vectors
}

#[test]
fn the_vectors_of_the_documentation_hold() {
    let vectors = vectors();
    assert!(vectors.len() >= 12, "{} vectors", vectors.len());
    let wrong: Vec<_> = vectors
        .iter()
        .map(|(title, json, hash)| (title, SpecHash::of(&Plan::from_json(json).unwrap()).to_string(), hash))
        .filter(|(_, computed, hash)| computed != *hash)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The last vector shows that secrets do not count; all others differ.
    let hashes: BTreeSet<_> = vectors.iter().map(|(.., hash)| hash).collect();
    assert_eq!(hashes.len(), vectors.len() - 1);
}

#[test]
fn the_declarations_of_the_documentation_hold() {
    let ids = DOCUMENT.lines().filter_map(|line| line.strip_prefix("id: `")?.strip_suffix('`'));
    let declarations = DOCUMENT.split("```json declaration\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let computed = declarations.map(|json| short(&serde_json::from_str::<serde_json::Value>(json).unwrap()));
    let expected = [Spec::default(), known_spec()].map(|spec| SpecId::of(&spec).to_string());
    assert_eq!(computed.collect::<Vec<_>>(), expected);
    assert_eq!(ids.collect::<Vec<_>>(), expected);
}

#[test]
fn a_plan_survives_its_json() {
    for (title, json, _) in vectors() {
        let plan = Plan::from_json(&json).unwrap();
        assert_eq!(Plan::from_json(&plan.to_json()).unwrap(), plan, "{title}");
    }
}

#[test]
fn the_text_of_a_hash_is_base32_of_rfc_4648() {
    assert_eq!(base32(b"fooba"), "mzxw6ytb");
    assert_eq!(base32(&[0; 20]), "a".repeat(32));
    assert_eq!(base32(&[255; 20]), "7".repeat(32));
}

/// Checks that the two specs have different hashes and different ids.
fn assert_differ(project: &Project, one: &Spec, other: &Spec) {
    assert_ne!(project.hash(one), project.hash(other));
    assert_ne!(SpecId::of(one), SpecId::of(other));
}

fn assert_same(project: &Project, one: &Spec, other: &Spec) {
    assert_eq!(project.hash(one), project.hash(other));
    assert_eq!(SpecId::of(one), SpecId::of(other));
}

#[test]
fn the_order_of_packages_env_labels_and_platforms_does_not_matter() {
    let platform = |text: &str| at(text.parse().unwrap());
    let one = Spec {
        packages: texts(&["numpy>=1", "Scipy"]),
        apt_packages: texts(&["curl", "git"]),
        runtime_packages: texts(&["a", "b"]),
        platform: vec![platform("linux/amd64"), platform("linux/arm64/v8")],
        ..Spec::default()
    };
    let other = Spec {
        packages: texts(&["scipy", "NumPy >= 1"]),
        apt_packages: texts(&["git", "curl"]),
        runtime_packages: texts(&["B", "a"]),
        platform: vec![platform("linux/arm64"), platform("linux/amd64")],
        ..Spec::default()
    };
    assert_same(&Project::new(&[]), &one, &other);
}

#[test]
fn the_order_of_commands_channels_indexes_and_arguments_matters() {
    let project = Project::new(&[]);
    let pairs: [fn(&[&str]) -> Spec; 6] = [
        |list| Spec { commands: texts(list), ..Spec::default() },
        |list| Spec { conda_channels: texts(list), conda_packages: texts(&["x"]), ..Spec::default() },
        |list| Spec {
            pip_extra_index_url: list.iter().map(|path| at(format!("https://example.org/{path}"))).collect(),
            packages: texts(&["x"]),
            ..Spec::default()
        },
        |list| Spec {
            pip_extra_args: list.iter().map(|word| at(format!("--upgrade-package={word}"))).collect(),
            packages: texts(&["x"]),
            ..Spec::default()
        },
        |list| Spec { entrypoint: some(list.iter().map(|word| (*word).to_owned()).collect()), ..Spec::default() },
        |list| Spec { cmd: some(list.iter().map(|word| (*word).to_owned()).collect()), ..Spec::default() },
    ];
    for spec in pairs {
        assert_differ(&project, &spec(&["a", "b"]), &spec(&["b", "a"]));
    }
}

#[test]
fn kinds_of_fields_and_borders_of_values_do_not_collide() {
    let project = Project::new(&[]);
    let specs = [
        Spec { apt_packages: texts(&["curl"]), ..Spec::default() },
        Spec { packages: texts(&["curl"]), ..Spec::default() },
        Spec { conda_packages: texts(&["curl"]), ..Spec::default() },
        Spec { runtime_packages: texts(&["curl"]), ..Spec::default() },
        Spec { commands: texts(&["curl"]), ..Spec::default() },
        Spec { commands: texts(&["ab", "c"]), ..Spec::default() },
        Spec { commands: texts(&["a", "bc"]), ..Spec::default() },
        Spec { commands: texts(&["abc"]), ..Spec::default() },
        Spec { entrypoint: some(Vec::new()), ..Spec::default() },
        Spec { cmd: some(Vec::new()), ..Spec::default() },
        Spec { user: text("curl"), ..Spec::default() },
        Spec { workdir: text("/curl"), ..Spec::default() },
        Spec { env: [("a".to_owned(), at("b".to_owned()))].into(), ..Spec::default() },
        Spec { labels: [("a".to_owned(), at("b".to_owned()))].into(), ..Spec::default() },
        Spec { env: [("a".to_owned(), at("b=c".to_owned()))].into(), ..Spec::default() },
        Spec { env: [("a=b".to_owned(), at("c".to_owned()))].into(), ..Spec::default() },
        Spec::default(),
        on_scratch(),
    ];
    let hashes: BTreeSet<_> = specs.iter().map(|spec| project.hash(spec)).collect();
    let ids: BTreeSet<_> = specs.iter().map(SpecId::of).collect();
    assert_eq!((hashes.len(), ids.len()), (specs.len(), specs.len()));
}

#[test]
fn builder_registry_secrets_names_and_descriptions_do_not_matter() {
    let secret = |id: &str| at(SecretMount { id: id.to_owned(), target: SecretTarget::Environment(id.to_owned()) });
    let plain = Spec { packages: texts(&["x"]), commands: texts(&["true"]), ..Spec::default() };
    let other = Spec {
        name: text("app"),
        description: text("what it is for"),
        builder: text("docker"),
        builder_options: [("a".to_owned(), at(serde_json::json!(1)))].into(),
        builder_config: some(PathBuf::from("builder.toml")),
        registry: text("ghcr.io/team"),
        registry_config: some(PathBuf::from("config.json")),
        tag_format: text("{spec_hash}-dev"),
        secrets: vec![secret("token")],
        pip_secret_mounts: vec![secret("pip")],
        ..plain.clone()
    };
    assert_same(&Project::new(&[]), &plain, &other);
}

fn copying() -> Spec {
    Spec { copy: copies(&["data"]), source_root: some(PathBuf::from("src")), ..on_scratch() }
}

fn project() -> Project {
    Project::new(&[("data/a.sh", "echo"), ("src/main.py", "print()")])
}

#[test]
fn content_mode_and_path_of_files_change_the_hash_and_not_the_id() {
    let project = project();
    let mut hashes = BTreeSet::from([project.hash(&copying())]);
    let id = SpecId::of(&copying());
    let mut changed = |what: &str| assert!(hashes.insert(project.hash(&copying())), "{what}");
    project.write("data/a.sh", "echo 2");
    changed("content of a copied file");
    std::fs::set_permissions(project.path("data/a.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    changed("mode of a copied file");
    std::fs::rename(project.path("data/a.sh"), project.path("data/b.sh")).unwrap();
    changed("path of a copied file");
    project.write("src/main.py", "print(1)");
    changed("content of a source file");
    std::fs::create_dir(project.path("data/empty")).unwrap();
    changed("an empty folder");
    project.link("data/c.sh", "b.sh");
    changed("a link");
    std::fs::remove_file(project.path("data/c.sh")).unwrap();
    project.link("data/c.sh", "./b.sh");
    changed("the target of a link");
    assert_eq!(SpecId::of(&copying()), id);
}

#[test]
fn a_moved_checkout_and_touched_files_do_not_matter() {
    let (here, there) = (project(), project());
    std::fs::set_permissions(there.path("data/a.sh"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let touched = std::fs::File::open(there.path("src/main.py")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    there.write("src/__pycache__/main.cpython-311.pyc", "bytecode");
    assert_eq!(here.hash(&copying()), there.hash(&copying()));
}

#[test]
fn a_source_copy_mode_of_none_is_as_if_there_were_no_source() {
    let project = project();
    let none = Spec { source_copy_mode: some(SourceCopyMode::None), ..copying() };
    assert_eq!(project.hash(&none), project.hash(&Spec { source_root: None, ..copying() }));
}

#[test]
fn the_pyproject_beside_a_lock_counts() {
    for (name, lock) in [("uv.lock", "version = 1"), ("poetry.lock", "[metadata]\nlock-version = '2.1'")] {
        let project = Project::new(&[(name, lock), ("pyproject.toml", "[project]\nname = 'a'")]);
        // A lock without packages would be no reason for a step of its own.
        let lock_of_one = format!(
            "[[package]]\nname = 'six'\nversion = '1.0'\ngroups = ['main']\nfiles = [{{ hash = 'sha256:{}' }}]\n{lock}",
            "0".repeat(64)
        );
        if name == "poetry.lock" {
            project.write(name, lock_of_one);
        }
        let spec = Spec { requirements: some(PathBuf::from(name)), ..Spec::default() };
        let (hash, id) = (project.hash(&spec), SpecId::of(&spec));
        project.write("pyproject.toml", "[project]\nname = 'b'");
        assert_ne!(project.hash(&spec), hash, "{name}");
        assert_eq!(SpecId::of(&spec), id);
    }
}

#[test]
fn how_a_requirements_file_is_written_does_not_matter_but_what_it_says_does() {
    let project = Project::new(&[("r.txt", "numpy>=1\nscipy\n"), ("c.txt", "six<2\n")]);
    let spec = Spec { requirements: some(PathBuf::from("r.txt")), ..Spec::default() };
    let hash = project.hash(&spec);
    project.write("r.txt", "# science\nSciPy\n\nnumpy >= 1  # one\n");
    assert_eq!(project.hash(&spec), hash);
    let listed = Spec { packages: texts(&["numpy>=1", "scipy"]), ..Spec::default() };
    assert_eq!(project.hash(&listed), hash);
    project.write("r.txt", "numpy>=1\nscipy\n-c c.txt\n");
    let constrained = project.hash(&spec);
    assert_ne!(constrained, hash);
    project.write("c.txt", "six<3\n");
    assert_ne!(project.hash(&spec), constrained);
}

#[test]
fn platform_base_and_python_version_matter() {
    let project = Project::new(&[("base.tar", "one")]);
    let plain = Spec::default();
    for other in [
        Spec { platform: vec![at("linux/arm64".parse().unwrap())], ..Spec::default() },
        Spec { python_version: text("3.11"), ..Spec::default() },
        Spec { python_version: text("3.9"), ..Spec::default() },
        Spec { base_image: some(BaseImage::Registry("debian:12".parse().unwrap())), ..Spec::default() },
        Spec { base_image: some(BaseImage::DockerArchive("base.tar".into())), ..Spec::default() },
    ] {
        assert_differ(&project, &plain, &other);
    }
    let archive = Spec { base_image: some(BaseImage::DockerArchive("base.tar".into())), ..Spec::default() };
    let hash = project.hash(&archive);
    project.write("base.tar", "two");
    assert_ne!(project.hash(&archive), hash);
}

#[test]
fn an_id_holds_no_absolute_path() {
    let at_path =
        |path: &str| SpecId::of(&Spec { base_image: some(BaseImage::OciLayout(path.into())), ..Spec::default() });
    assert_eq!(at_path("/home/one/base"), at_path("/srv/two/base"));
    assert_ne!(at_path("base"), at_path("other"));
    let copied = |path: &str| SpecId::of(&Spec { copy: copies(&[path]), ..Spec::default() });
    assert_eq!(copied("./data/"), copied("data"));
}

/// The spec of the last declaration in the documentation.
fn known_spec() -> Spec {
    Spec {
        python_version: text("3.10"),
        packages: texts(&["Pandas >= 2", "requests[socks] ; python_version < '3.13'"]),
        apt_packages: texts(&["git"]),
        env: [("Debug".to_owned(), at("True".to_owned()))].into(),
        base_image: some(BaseImage::Spec(Box::new(on_scratch()))),
        ..Spec::default()
    }
}

//! The builder does not change what a program sees: images of one spec, made by `oci` and by `docker`, are compared in a
//! real engine. Needs the network, for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;

use std::collections::BTreeSet;
use std::fs;
use std::panic::resume_unwind;
use std::thread;

use imagespec_tests::{
    DockerRegistry, Engine, Kind, Program, Seen, Setup, TestEnv, differences, envd, insta, seen, skip,
};

use cases::{CASES, Case, Place, Where};

/// What may differ between the images of the two builders: subjects that begin so, and why. The same table stands in
/// docs/builders.md.
const ALLOWED: [(&str, &str); 2] = [
    (
        "label org.opencontainers.image.base.digest",
        "`oci` has it of a base that is a spec, `docker` of one that another builder made",
    ),
    ("config ArgsEscaped", "Docker sets it beside `cmd`; only Windows looks at it"),
];
/// The same of `oci` and `envd`.
const ALLOWED_OF_ENVD: [(&str, &str); 1] = [(
    "label org.opencontainers.image.base.digest",
    "`oci` has it of a base that is a spec, `envd` of one that another builder made",
)];
const DOCKER: Other = Other { name: "docker", allowed: &ALLOWED };
const ENVD: Other = Other { name: "envd", allowed: &ALLOWED_OF_ENVD };

/// A builder whose images are compared with those of `oci`.
#[derive(Clone, Copy)]
struct Other {
    name: &'static str,
    /// What may differ.
    allowed: &'static [(&'static str, &'static str)],
}

/// Builds the spec into the engine, has the image under a name of `own` alone, and returns the name that it had.
fn built(place: &Place, engine: &Engine, case: &Case, builder: &str, own: &str) -> String {
    let variables = place.variables(engine);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let spec = format!("{}/imagespec.yaml", case.name);
    let secrets: &[&str] =
        if case.name == "debian-packages-and-commands" { &["--secret", "id=token,env=TOKEN"] } else { &[] };
    let program = format!("program={}", if builder == "envd" { envd().display().to_string() } else { String::new() });
    let options: &[&str] = if builder == "envd" { &["--builder-opt", &program] } else { &[] };
    let arguments = [&["build", &spec, "--builder", builder, "--output", "type=docker"], secrets, options].concat();
    let built = place.env.run_with(&arguments, &variables);
    assert_eq!(built.code, 0, "{} by {builder} in {}: {}", case.name, engine.kind().name(), built.stderr);
    let name = built.stdout.trim().split('@').next().unwrap().to_owned();
    engine.docker(&["tag", &name, own]);
    engine.docker(&["image", "rm", &name]);
    name
}

/// What a program sees in the image, and what its container prints.
fn looked_at(engine: &Engine, case: &Case, image: &str) -> Seen {
    let mut found = seen(engine, image, case.program);
    if let Some((arguments, printed)) = case.runs {
        // The container has no network to install packages from.
        let run = ["run", "--rm", "--network", "none", "--env", "IMAGESPEC_RUNTIME_PACKAGES=", image];
        let ran = engine.docker(&[&run, arguments].concat());
        assert!(ran.ends_with(printed), "{image} of {} prints {ran}", case.name);
        found.insert("output".to_owned(), ran);
    }
    found
}

/// What an engine has shown.
#[derive(Default)]
struct Shown {
    /// The differences that no row of the table allows, as lines.
    forbidden: Vec<String>,
    /// The subjects of the rows that were needed.
    needed: BTreeSet<&'static str>,
}

/// Compares what the builders make of the cases, in one engine.
fn compare(place: &Place, engine: &Engine, cases: &[&Case], other: Other) -> Shown {
    let mut shown = Shown::default();
    for case in cases {
        // They stay: what they share with the next ones need not be loaded again.
        let [first, second] = ["oci", other.name].map(|builder| format!("{builder}-{}", case.name));
        let [first, second] = [first.as_str(), second.as_str()];
        // The hash of a spec does not tell who builds it.
        assert_eq!(built(place, engine, case, "oci", first), built(place, engine, case, other.name, second));
        for difference in differences(&looked_at(engine, case, first), &looked_at(engine, case, second)) {
            match other.allowed.iter().find(|(subject, _)| difference.subject.starts_with(subject)) {
                Some((subject, _)) => drop(shown.needed.insert(subject)),
                None => shown.forbidden.push(format!("{}: {}: {difference}", engine.kind().name(), case.name)),
            }
        }
    }
    shown
}

/// The cases that are `wanted`, and that IMAGESPEC_TEST_CASES names if somebody looks into a few.
fn chosen(wanted: impl Fn(&Case) -> bool) -> Vec<&'static Case> {
    let named = std::env::var("IMAGESPEC_TEST_CASES").ok();
    let is_named = |case: &Case| named.as_ref().is_none_or(|named| named.split(',').any(|name| name == case.name));
    CASES.iter().filter(|case| wanted(case) && is_named(case)).collect()
}

/// Compares the cases of each engine, all engines at once.
fn assert_same(chosen: &[(Kind, Vec<&Case>)], other: Other) -> Option<BTreeSet<&'static str>> {
    let mut engines = Vec::new();
    for (kind, cases) in chosen {
        match Engine::start(*kind) {
            Ok(engine) => engines.push((engine, cases)),
            Err(why) => skip(&format!("that builders agree, in {}", kind.name()), &why),
        }
    }
    let (helper, _) = engines.first()?;
    // The engines have one cache of `oci`: what it makes is loaded into each.
    let place = Place { env: TestEnv::with_debian(), registry: DockerRegistry::start(Setup::Password) };
    for case in &CASES {
        if engines.iter().any(|(_, cases)| cases.iter().any(|wanted| wanted.name == case.name)) {
            let folder = place.env.path().join(case.name);
            fs::create_dir(&folder).unwrap();
            (case.write)(&place, helper, &folder);
        }
    }
    let shown: Vec<_> = thread::scope(|scope| {
        let place = &place;
        let threads: Vec<_> =
            engines.iter().map(|(engine, cases)| scope.spawn(move || compare(place, engine, cases, other))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let forbidden: Vec<_> = shown.iter().flat_map(|shown| &shown.forbidden).map(String::as_str).collect();
    assert!(forbidden.is_empty(), "oci and {} differ:\n{}", other.name, forbidden.join("\n"));
    Some(shown.into_iter().flat_map(|shown| shown.needed).collect())
}

#[test]
fn images_of_oci_and_of_docker_are_the_same_to_a_program() {
    let cases = [
        (Kind::Docker20, chosen(|case| case.place != Where::None)),
        (Kind::Docker26, chosen(|case| case.place == Where::All)),
    ];
    let is_whole = cases[0].1.len() == CASES.iter().filter(|case| case.place != Where::None).count();
    let Some(needed) = assert_same(&cases, DOCKER) else { return };
    for (subject, _) in ALLOWED.iter().filter(|_| is_whole) {
        assert!(needed.contains(subject), "`{subject}` may differ, and does not: the row is not needed any more");
    }
}

#[test]
#[ignore = "takes minutes; tests/slow runs it"]
fn images_of_oci_and_of_docker_are_the_same_to_a_program_in_the_other_engines() {
    let cases = [
        (Kind::Docker20, chosen(|case| case.place == Where::None)),
        (Kind::Docker26, chosen(|case| case.place != Where::All)),
    ];
    assert_same(&cases, DOCKER);
}

#[test]
fn images_of_oci_and_of_envd_are_the_same_to_a_program() {
    let cases = [(Kind::Docker26, chosen(|case| case.name == "quickstart"))];
    let is_whole = !cases[0].1.is_empty();
    let Some(needed) = assert_same(&cases, ENVD) else { return };
    for (subject, _) in ALLOWED_OF_ENVD.iter().filter(|_| is_whole) {
        assert!(needed.contains(subject), "`{subject}` may differ, and does not: the row is not needed any more");
    }
}

#[test]
#[ignore = "takes minutes; tests/slow runs it"]
fn images_of_oci_and_of_envd_are_the_same_to_a_program_whatever_envd_can_do() {
    let others = ["files", "requirements-with-hashes"];
    assert_same(&[(Kind::Docker26, chosen(|case| others.contains(&case.name)))], ENVD);
}

#[test]
fn what_may_differ_stands_in_the_documentation() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/builders.md")).unwrap();
    for (subject, reason) in ALLOWED.iter().chain(&ALLOWED_OF_ENVD) {
        assert!(
            page.contains(&format!("| `{subject}` | {reason} |")),
            "docs/builders.md has no row `{subject}`, {reason}"
        );
    }
}

#[test]
fn the_comparison_finds_what_a_program_would() {
    let engine = match Engine::start(Kind::Docker20) {
        Ok(engine) => engine,
        Err(why) => return skip("the comparison of images", &why),
    };
    let env = TestEnv::with_debian();
    env.write("app.yaml", "name: app\npython_version: 3.11\ncopy: [data.txt]\nenv: {SAME: same, OTHER: one}\n");
    env.write("data.txt", "data\n");
    let built = env.run_online(&["build", "app.yaml", "--output", "type=docker"], &[("DOCKER_HOST", &engine.host())]);
    assert_eq!(built.code, 0, "{}", built.stderr);
    let first = built.stdout.trim().split('@').next().unwrap();
    let packages = "/opt/venv/lib/python3.11/site-packages";
    let steps = format!(
        "FROM {first}\nENV OTHER=two MORE=\nLABEL more=yes\nUSER 5:6\nWORKDIR /srv/\nENTRYPOINT [\"env\", \"A=B\"]\nUSER root\n\
         RUN chmod 600 /root/data.txt && echo more > /root/more.txt && ln -s more.txt /root/link && chmod 711 /opt/venv && \
         mkdir -p {packages}/demo-1.dist-info && printf 'Name: Demo\\nVersion: 1\\n' > {packages}/demo-1.dist-info/METADATA && \
         echo /srv > {packages}/more.pth && chmod 755 /root && chown 7:8 /root\nUSER 5:6\n"
    );
    env.write("other/Dockerfile", &steps);
    engine.docker(&["build", "--network", "none", "--tag", "other", &env.path().join("other").display().to_string()]);
    let [first, second] = [first, "other"].map(|image| seen(&engine, image, Program::Python));
    assert_eq!(differences(&first, &first), []);
    let lines: Vec<_> = differences(&first, &second).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    config Entrypoint: nothing and "[\"env\",\"A=B\"]"
    config User: nothing and "5:6"
    config WorkingDir: "/root" and "/srv/"
    config variable MORE: nothing and ""
    config variable OTHER: "one" and "two"
    file /opt/venv: "folder 0755 0:0" and "folder 0711 0:0"
    file /root: "folder 0755 0:0" and "folder 0755 7:8"
    file /root/data.txt: "file 0644 0:0 5 bytes 6667b2d1aab6" and "file 0600 0:0 5 bytes 6667b2d1aab6"
    file /root/link: nothing and "link 0:0 to more.txt"
    file /root/more.txt: nothing and "file 0644 0:0 5 bytes 2396099c6c08"
    label more: nothing and "yes"
    package demo: nothing and "1"
    process folder: "/root" and "/srv"
    process group: "0" and "6"
    process groups: "[0]" and "[6]"
    process user: "0" and "5"
    python path: "[\"\",\"/root\",\"/usr/lib/python311.zip\",\"/usr/lib/python3.11\",\"/usr/lib/python3.11/lib-dynload\",\"/opt/venv/lib/python3.11/site-packages\",\"/usr/local/lib/python3.11/dist-packages\",\"/usr/lib/python3/dist-packages\"]" and "[\"\",\"/root\",\"/usr/lib/python311.zip\",\"/usr/lib/python3.11\",\"/usr/lib/python3.11/lib-dynload\",\"/opt/venv/lib/python3.11/site-packages\",\"/srv\",\"/usr/local/lib/python3.11/dist-packages\",\"/usr/lib/python3/dist-packages\"]"
    variable HOME: "/root" and "/usr/games"
    variable MORE: nothing and ""
    variable OTHER: "one" and "two"
    "#);
}

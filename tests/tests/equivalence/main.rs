//! The builder does not change what a program sees: images of one spec, made by `oci` and by `docker`, are compared in a
//! real engine. Needs the network, for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;

use std::collections::BTreeSet;
use std::fs;
use std::panic::resume_unwind;
use std::thread;

use imagespec_tests::{
    Bridge, DockerRegistry, Engine, Kind, Program, Seen, Setup, TestEnv, differences, envd, insta, seen, skip,
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
const BUILDERS: [&str; 2] = ["oci", "docker"];
/// The builder whose images come back from a daemon. Its plans are lowered as those of `docker`: some cases show that.
const REMOTE: &str = "remote";
/// The builder that cannot do everything, and is compared in what it can.
const ENVD: &str = "envd";

/// Builds the spec into the engine, has the image under a name of `own` alone, and returns the name that it had.
fn built(place: &Place, engine: &Engine, case: &Case, builder: &str, own: &str) -> String {
    let variables = place.variables(engine);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let spec = format!("{}/imagespec.yaml", case.name);
    let secrets: &[&str] =
        if case.name == "debian-packages-and-commands" { &["--secret", "id=token,env=TOKEN"] } else { &[] };
    let archive = format!("{}.tar", case.name);
    let output = match builder {
        REMOTE => format!("type=docker-archive,dest={archive}"),
        _ => "type=docker".to_owned(),
    };
    // The daemon is the one inside of the engine, so that what `docker` did there is there.
    let bridge = (builder == REMOTE).then(|| Bridge::unix(engine));
    let endpoint = bridge.as_ref().map(Bridge::address).unwrap_or_default();
    let variables = [&variables[..], &[("BUILDKIT_HOST", endpoint.as_str())]].concat();
    let program = (builder == ENVD).then(|| format!("program={}", envd().display()));
    let options: Vec<_> = program.iter().flat_map(|program| ["--builder-opt", program]).collect();
    let arguments = [&["build", &spec, "--builder", builder, "--output", &output], secrets, &options].concat();
    let built = place.env.run_with(&arguments, &variables);
    assert_eq!(built.code, 0, "{} by {builder} in {}: {}", case.name, engine.kind().name(), built.stderr);
    let name = built.stdout.trim().split('@').next().unwrap().to_owned();
    if builder == REMOTE {
        engine.docker(&["load", "--quiet", "--input", &place.env.path().join(archive).display().to_string()]);
    }
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

/// What may differ between images of `oci` and of another builder.
fn allowed(other: &str) -> &'static [(&'static str, &'static str)] {
    if other == ENVD { &ALLOWED_OF_ENVD } else { &ALLOWED }
}

/// The builders whose images are compared with those of `oci` in an engine.
fn others(kind: Kind) -> &'static [&'static str] {
    // Older engines have no BuildKit that hands images over.
    if kind == Kind::Docker26 { &[BUILDERS[1], REMOTE] } else { &BUILDERS[1..] }
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
fn compare(place: &Place, engine: &Engine, cases: &[&Case], others: &[&str]) -> Shown {
    let mut shown = Shown::default();
    for case in cases {
        // They stay: what they share with the next ones need not be loaded again.
        let own = |builder: &str| format!("{builder}-{}", case.name);
        let first = built(place, engine, case, BUILDERS[0], &own(BUILDERS[0]));
        let expected = looked_at(engine, case, &own(BUILDERS[0]));
        for other in others {
            // The hash of a spec does not tell who builds it.
            assert_eq!(first, built(place, engine, case, other, &own(other)));
            for difference in differences(&expected, &looked_at(engine, case, &own(other))) {
                match allowed(other).iter().find(|(subject, _)| difference.subject.starts_with(subject)) {
                    Some((subject, _)) => drop(shown.needed.insert(subject)),
                    None => {
                        let engine = engine.kind().name();
                        shown.forbidden.push(format!("{engine}: {other}: {}: {difference}", case.name));
                    }
                }
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
fn assert_same(
    chosen: &[(Kind, Vec<&Case>)],
    others: fn(Kind) -> &'static [&'static str],
) -> Option<BTreeSet<&'static str>> {
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
        let threads: Vec<_> = engines
            .iter()
            .map(|(engine, cases)| scope.spawn(move || compare(place, engine, cases, others(engine.kind()))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let forbidden: Vec<_> = shown.iter().flat_map(|shown| &shown.forbidden).map(String::as_str).collect();
    assert!(forbidden.is_empty(), "the images differ from those of `oci`:\n{}", forbidden.join("\n"));
    Some(shown.into_iter().flat_map(|shown| shown.needed).collect())
}

#[test]
fn images_of_oci_and_of_docker_are_the_same_to_a_program() {
    let cases = [
        (Kind::Docker20, chosen(|case| case.place != Where::None)),
        (Kind::Docker26, chosen(|case| case.place == Where::All)),
    ];
    let is_whole = cases[0].1.len() == CASES.iter().filter(|case| case.place != Where::None).count();
    let Some(needed) = assert_same(&cases, others) else { return };
    for (subject, _) in ALLOWED.iter().filter(|_| is_whole) {
        assert!(needed.contains(subject), "`{subject}` may differ, and does not: the row is not needed any more");
    }
}

#[test]
#[ignore = "takes minutes; tests/slow runs it"]
fn images_of_oci_and_of_docker_are_the_same_to_a_program_in_the_other_engines() {
    assert_same(
        &[
            (Kind::Docker20, chosen(|case| case.place == Where::None)),
            (Kind::Docker26, chosen(|case| case.place != Where::All)),
        ],
        others,
    );
}

#[test]
fn the_image_of_the_quickstart_by_envd_is_the_same_to_a_program() {
    let cases = [(Kind::Docker26, chosen(|case| case.name == "quickstart"))];
    let Some(needed) = assert_same(&cases, |_| &[ENVD]) else { return };
    for (subject, _) in ALLOWED_OF_ENVD.iter().filter(|_| !cases[0].1.is_empty()) {
        assert!(needed.contains(subject), "`{subject}` may differ, and does not: the row is not needed any more");
    }
}

#[test]
#[ignore = "takes minutes; tests/slow runs it"]
fn images_of_oci_and_of_envd_are_the_same_to_a_program() {
    let cases = ["files", "requirements-with-hashes"];
    assert_same(&[(Kind::Docker26, chosen(|case| cases.contains(&case.name)))], |_| &[ENVD]);
}

#[test]
fn what_may_differ_stands_in_the_documentation() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/builders.md")).unwrap();
    for (subject, reason) in ALLOWED.into_iter().chain(ALLOWED_OF_ENVD) {
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

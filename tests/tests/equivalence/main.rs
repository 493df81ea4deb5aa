//! The builder does not change what a program sees: images of one spec, made by `oci` and by `docker`, are compared in a
//! real engine. Needs the network, for Debian's archive and the package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod cases;

use std::fs;

use imagespec_tests::{
    Difference, DockerRegistry, Engine, Kind, Program, Seen, Setup, TestEnv, differences, insta, seen, skip,
};

use cases::{CASES, Case, Place};

/// What may differ between the images of the two builders: subjects that begin so, and why. The same table stands in
/// docs/builders.md.
const ALLOWED: [(&str, &str); 0] = [];

/// Builds the spec into the engine, has the image under a name of `own` alone, and returns the name that it had.
fn built(place: &Place, engine: &Engine, case: &Case, builder: &str, own: &str) -> String {
    let variables = place.variables(engine);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let spec = format!("{}/imagespec.yaml", case.name);
    let secrets: &[&str] =
        if case.name == "debian-packages-and-commands" { &["--secret", "id=token,env=TOKEN"] } else { &[] };
    let arguments = [&["build", &spec, "--builder", builder, "--output", "type=docker"], secrets].concat();
    let built = place.env.run_with(&arguments, &variables);
    assert_eq!(built.code, 0, "{} by {builder}: {}", case.name, built.stderr);
    let name = built.stdout.trim().split_once('@').unwrap().0.to_owned();
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
        assert!(ran.ends_with(printed), "{image} prints {ran}");
        found.insert("output".to_owned(), ran);
    }
    found
}

/// The differences that no row of the table allows, as lines. Marks the rows that were needed.
fn forbidden(case: &Case, found: &[Difference], needed: &mut [bool]) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in found {
        let row = ALLOWED.iter().position(|(subject, _)| difference.subject.starts_with(subject));
        match row {
            Some(row) => needed[row] = true,
            None => lines.push(format!("{}: {difference}", case.name)),
        }
    }
    lines
}

#[test]
fn images_of_oci_and_of_docker_are_the_same_to_a_program() {
    const BUILDERS: [&str; 2] = ["oci", "docker"];
    let mut engines = Vec::new();
    for kind in [Kind::Docker20, Kind::Docker26] {
        match Engine::start(kind) {
            Ok(engine) => engines.push(engine),
            Err(why) => skip(&format!("that builders agree, in {}", kind.name()), &why),
        }
    }
    let Some(first) = engines.first() else { return };
    // The engines have one cache of `oci`: what it makes is loaded into each.
    let place = Place { env: TestEnv::with_debian(), registry: DockerRegistry::start(Setup::Password) };
    let mut needed = [false; ALLOWED.len()];
    let mut lines = Vec::new();
    for case in &CASES {
        let folder = place.env.path().join(case.name);
        fs::create_dir(&folder).unwrap();
        (case.write)(&place, first, &folder);
        for engine in &engines {
            let [first, second] = ["first", "second"];
            // The hash of a spec does not tell who builds it.
            assert_eq!(
                built(&place, engine, case, BUILDERS[0], first),
                built(&place, engine, case, BUILDERS[1], second)
            );
            let found = differences(&looked_at(engine, case, first), &looked_at(engine, case, second));
            let found = forbidden(case, &found, &mut needed);
            lines.extend(found.iter().map(|line| format!("{}: {line}", engine.kind().name())));
            engine.docker(&["image", "rm", "--force", first, second]);
        }
    }
    assert!(lines.is_empty(), "{BUILDERS:?} differ:\n{}", lines.join("\n"));
    for ((subject, _), is_needed) in ALLOWED.iter().zip(needed) {
        assert!(is_needed, "`{subject}` may differ, and does not: the row is not needed any more");
    }
}

#[test]
fn what_may_differ_stands_in_the_documentation() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/builders.md")).unwrap();
    for (subject, reason) in ALLOWED {
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
    let first = built.stdout.trim().split_once('@').unwrap().0;
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

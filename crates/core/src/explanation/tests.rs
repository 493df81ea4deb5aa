//! What differences between two plans are called, on the plans of real specs.

use serde_json::{Value, json};

use super::*;
use crate::hash::SpecHash;
use crate::plan::Plan;
use crate::spec::Spec;
use crate::testing::{Project, copies, some, texts};

fn plan(steps: Value, config: Value) -> HashedPlan {
    on_base(json!({ "kind": "scratch" }), steps, config)
}

fn on_base(base: Value, steps: Value, config: Value) -> HashedPlan {
    let plan = json!({ "version": 1, "platforms": ["linux/amd64"], "base": base, "steps": steps, "config": config });
    HashedPlan::from_json(plan).unwrap()
}

/// Each difference as `field subject: change`.
fn told(before: &HashedPlan, after: &HashedPlan) -> String {
    told_of(before, after, &Spec::default())
}

fn told_of(before: &HashedPlan, after: &HashedPlan, spec: &Spec) -> String {
    let lines = compare(before, after, spec).into_iter().map(|difference| {
        let Difference { field, subject, change } = difference;
        let change = serde_json::to_value(&change).unwrap();
        let (kind, mut change) = (change["change"].as_str().unwrap().to_owned(), change);
        change.as_object_mut().unwrap().shift_remove("change");
        format!("{field} {}: {kind} {change}\n", subject.unwrap_or_default())
    });
    lines.collect()
}

fn requirement(text: &str) -> Value {
    json!([{ "kind": "pip", "input": { "kind": "requirements", "requirements": [{ "text": text }] } }])
}

#[test]
fn what_is_carried_is_what_is_hashed_and_has_no_secret_in_it() {
    let spec = Spec { packages: texts(&["six"]), ..Spec::default() };
    let project = Project::new(&[]);
    let plan = project.plan(&spec);
    let hashed = HashedPlan::of(&plan);
    assert_eq!(hashed.hash(), Some(SpecHash::of(&plan)));
    let carried = hashed.carried();
    assert_eq!(HashedPlan::from_json(carried.clone()), Ok(hashed.clone()));
    assert_eq!(carried.to_string(), crate::plan::wire::canonical(&carried));
    // What `imagespec plan` prints names secrets, which no hash and no image does.
    let printed = r#"{"base":{"kind":"scratch"},"config":{"workdir":"/root"},"platforms":["linux/amd64"],"steps":[{"commands":["a"],"kind":"run","secrets":[{"id":"canary","target":{"environment":"A"}}]}],"version":1}"#;
    let read = HashedPlan::from_json(serde_json::from_str(printed).unwrap()).unwrap();
    assert_eq!(read.hash(), Some(SpecHash::of(&Plan::from_json(printed).unwrap())));
    assert!(!read.carried().to_string().contains("canary"));
}

#[test]
fn packages_are_told_by_their_names() {
    insta::assert_snapshot!(told(&plan(requirement("numpy>=1"), json!({})), &plan(requirement("numpy>=2"), json!({}))), @r#"packages numpy: value {"before":{"kind":"package","text":"numpy>=1"},"after":{"kind":"package","text":"numpy>=2"}}"#);
    insta::assert_snapshot!(told(&plan(requirement("numpy"), json!({})), &plan(requirement("pandas>=2"), json!({}))), @r#"
    packages numpy: removed {"before":{"kind":"package","text":"numpy"}}
    packages pandas: added {"after":{"kind":"package","text":"pandas>=2"}}
    "#);
    let apt = |packages: Value| plan(json!([{ "kind": "apt", "packages": packages }]), json!({}));
    insta::assert_snapshot!(told(&apt(json!(["curl=7.88", "git"])), &apt(json!(["curl=8.0", "git"]))), @r#"apt_packages curl: value {"before":{"kind":"package","text":"curl=7.88"},"after":{"kind":"package","text":"curl=8.0"}}"#);
    let hashed = |hash: &str| {
        let input = json!({ "kind": "requirements", "requirements": [{ "text": "six==1.16.0", "hashes": [hash] }] });
        plan(json!([{ "kind": "pip", "input": input }]), json!({}))
    };
    insta::assert_snapshot!(told(&hashed("sha256:a"), &hashed("sha256:b")), @r#"packages six: hashes {"before":["sha256:a"],"after":["sha256:b"]}"#);
}

#[test]
fn two_requirements_of_one_package_are_two() {
    let pip = |requirements: Value| {
        plan(json!([{ "kind": "pip", "input": { "kind": "requirements", "requirements": requirements } }]), json!({}))
    };
    let both = pip(json!([{ "text": "six==1 ; os_name == 'nt'" }, { "text": "six==2 ; os_name != 'nt'" }]));
    let one = pip(json!([{ "text": "six==1 ; os_name == 'nt'" }]));
    insta::assert_snapshot!(told(&one, &both), @r#"packages six==2 ; os_name != 'nt': added {"after":{"kind":"package","text":"six==2 ; os_name != 'nt'"}}"#);
}

#[test]
fn files_are_told_by_their_paths() {
    let copy = |files: Value| plan(json!([{ "kind": "copy", "files": files }]), json!({}));
    let before = copy(json!({
        "a.txt": { "kind": "file", "digest": "sha256:1", "size_bytes": 3, "executable": false },
        "run": { "kind": "file", "digest": "sha256:2", "size_bytes": 4, "executable": false },
        "link": { "kind": "link", "target": "a.txt" },
        "old": { "kind": "directory" },
    }));
    let after = copy(json!({
        "a.txt": { "kind": "file", "digest": "sha256:9", "size_bytes": 5, "executable": false },
        "run": { "kind": "file", "digest": "sha256:2", "size_bytes": 4, "executable": true },
        "link": { "kind": "link", "target": "run" },
        "new": { "kind": "directory" },
    }));
    insta::assert_snapshot!(told(&before, &after), @r#"
    copy a.txt: content {"before":{"kind":"file","digest":"sha256:1","size_bytes":3,"executable":false},"after":{"kind":"file","digest":"sha256:9","size_bytes":5,"executable":false}}
    copy link: value {"before":{"kind":"link","target":"a.txt"},"after":{"kind":"link","target":"run"}}
    copy new: added {"after":{"kind":"directory"}}
    copy old: removed {"before":{"kind":"directory"}}
    copy run: mode {"executable":true}
    "#);
}

#[test]
fn fields_are_those_that_the_user_wrote() {
    let files =
        json!([{ "kind": "copy", "files": { "data/a": { "kind": "directory" }, "src/b": { "kind": "directory" } } }]);
    let spec = Spec {
        copy: copies(&["data"]),
        source_root: some("src".into()),
        requirements: some("requirements.txt".into()),
        packages: texts(&["Six_X"]),
        ..Spec::default()
    };
    insta::assert_snapshot!(told_of(&plan(json!([]), json!({})), &plan(files, json!({})), &spec), @r#"
    copy data/a: added {"after":{"kind":"directory"}}
    source_root src/b: added {"after":{"kind":"directory"}}
    "#);
    let both = json!([{ "kind": "pip", "input": { "kind": "requirements", "requirements": [{ "text": "idna" }, { "text": "six-x" }] } }]);
    insta::assert_snapshot!(told_of(&plan(json!([]), json!({})), &plan(both, json!({})), &spec), @r#"
    requirements idna: added {"after":{"kind":"package","text":"idna"}}
    packages six-x: added {"after":{"kind":"package","text":"six-x"}}
    "#);
}

#[test]
fn lists_lose_and_gain_values_or_change_their_order() {
    let run = |commands: Value| plan(json!([{ "kind": "run", "commands": commands }]), json!({}));
    insta::assert_snapshot!(told(&run(json!(["a", "b", "c"])), &run(json!(["a", "x", "y", "c"]))), @r#"commands : list {"removed":["b"],"added":["x","y"]}"#);
    insta::assert_snapshot!(told(&run(json!(["a", "b"])), &run(json!(["b", "a"]))), @r#"commands : order {"after":["b","a"]}"#);
    insta::assert_snapshot!(told(&run(json!(["a"])), &run(json!(["a", "a"]))), @r#"commands : list {"removed":[],"added":["a"]}"#);
}

#[test]
fn the_config_is_told_field_by_field() {
    let before = json!({ "env": { "LEVEL": "info", "OLD": "1" }, "workdir": "/root", "user": "1000", "cmd": ["a"] });
    let after = json!({ "env": { "LEVEL": "debug" }, "workdir": "/srv", "entrypoint": [], "cmd": ["a", "b"], "labels": { "team": "x" }, "runtime_packages": ["ipdb"] });
    insta::assert_snapshot!(told(&plan(json!([]), before), &plan(json!([]), after)), @r#"
    runtime_packages ipdb: added {"after":{"kind":"package","text":"ipdb"}}
    env LEVEL: value {"before":{"kind":"text","text":"info"},"after":{"kind":"text","text":"debug"}}
    env OLD: removed {"before":{"kind":"text","text":"1"}}
    workdir : value {"before":{"kind":"text","text":"/root"},"after":{"kind":"text","text":"/srv"}}
    user : removed {"before":{"kind":"text","text":"1000"}}
    entrypoint : added {"after":{"kind":"words","words":[]}}
    cmd : value {"before":{"kind":"words","words":["a"]},"after":{"kind":"words","words":["a","b"]}}
    labels team: added {"after":{"kind":"text","text":"x"}}
    "#);
}

#[test]
fn a_spec_beneath_is_told_by_its_own_fields() {
    let nested = |commands: Value| {
        let plan = json!({ "version": 1, "platforms": ["linux/amd64"], "base": { "kind": "bootstrap", "suite": "bookworm", "packages": [] }, "steps": [{ "kind": "run", "commands": commands }], "config": {} });
        on_base(json!({ "kind": "plan", "plan": plan }), json!([]), json!({}))
    };
    insta::assert_snapshot!(told(&nested(json!(["a"])), &nested(json!(["b"]))), @r#"base_image.commands : list {"removed":["a"],"added":["b"]}"#);
    let suite = |suite: &str, packages: Value| {
        on_base(json!({ "kind": "bootstrap", "suite": suite, "packages": packages }), json!([]), json!({}))
    };
    insta::assert_snapshot!(told(&suite("bookworm", json!(["python3"])), &suite("trixie", json!([]))), @r#"
    base_image : value {"before":{"kind":"text","text":"bootstrap:debian/bookworm"},"after":{"kind":"text","text":"bootstrap:debian/trixie"}}
    base_image packages python3: removed {"before":{"kind":"member"}}
    "#);
}

#[test]
fn locked_versions_are_told_wherever_a_lock_has_them() {
    let locked = |numpy: &str, sha: &str, base: &str| {
        let lock = json!({ "linux/amd64": { "base": base, "wheels": [{ "name": "numpy", "version": numpy, "sha256": "x" }, { "name": "six", "version": "1.16.0", "sha256": sha }] } });
        let mut document = plan(json!([]), json!({})).carried();
        document["plan"]["lock"] = lock;
        HashedPlan::from_json(document).unwrap()
    };
    let digests = regexless(&told(&locked("2.1.0", "a", "sha256:1"), &locked("2.2.0", "b", "sha256:2")));
    insta::assert_snapshot!(digests, @r#"
    lock linux/amd64 base: value {"before":{"kind":"text","text":"sha256:1"},"after":{"kind":"text","text":"sha256:2"}}
    lock linux/amd64 wheels numpy: value {"before":{"kind":"locked","version":"2.1.0","content":…},"after":{"kind":"locked","version":"2.2.0","content":…}}
    lock linux/amd64 wheels six: content {"before":{"kind":"locked","version":"1.16.0","content":…},"after":{"kind":"locked","version":"1.16.0","content":…}}
    "#);
}

#[test]
fn a_locked_package_without_a_version_has_its_commit_or_its_digest() {
    let locked = |version: Value, commit: &str, digest: &str| {
        let vcs = |name: &str, commit: &str| json!({ "name": name, "vcs": { "type": "git", "url": "https://x.test/a", "commit-id": commit } });
        let mut demo = vcs("demo", commit);
        demo["version"] = version;
        let archive = json!({ "name": "lib", "archive": { "url": "https://x.test/lib.zip", "sha256": digest } });
        let mut document = plan(json!([]), json!({})).carried();
        document["plan"]["lock"] = json!({ "linux/amd64": { "packages": [demo, vcs("other", "b06f"), archive] } });
        HashedPlan::from_json(document).unwrap()
    };
    let (old, new) = ("1f0c5c1a0d7e4b9c8a3f", "90a4455c2cc2b3e171df");
    let (one, other) = ("sha256:2cf24dba5fb0a30e26e8", "sha256:486ea46224d1bb4fb680");
    insta::assert_snapshot!(regexless(&told(&locked(json!("1"), old, one), &locked(json!("1"), new, one))), @r#"lock linux/amd64 packages demo: value {"before":{"kind":"locked","version":"1 at 1f0c5c1a0d7e","content":…},"after":{"kind":"locked","version":"1 at 90a4455c2cc2","content":…}}"#);
    insta::assert_snapshot!(regexless(&told(&locked(json!(null), old, one), &locked(json!(null), new, other))), @r#"
    lock linux/amd64 packages demo: value {"before":{"kind":"locked","version":"1f0c5c1a0d7e","content":…},"after":{"kind":"locked","version":"90a4455c2cc2","content":…}}
    lock linux/amd64 packages lib: value {"before":{"kind":"locked","version":"sha256:2cf24dba5fb0","content":…},"after":{"kind":"locked","version":"sha256:486ea46224d1","content":…}}
    "#);
}

#[test]
fn a_lock_that_one_of_two_plans_lacks_is_one_difference() {
    let with = |outer: Option<Value>, inner: Option<Value>| {
        let with = |mut plan: Value, lock: Option<Value>| {
            lock.into_iter().for_each(|lock| plan["lock"] = lock);
            plan
        };
        let inner = with(plan(json!([]), json!({})).carried()["plan"].clone(), inner);
        let outer_plan = on_base(json!({ "kind": "plan", "plan": inner }), json!([]), json!({})).carried();
        HashedPlan::from_json(with(outer_plan["plan"].clone(), outer)).unwrap()
    };
    let lock = || {
        Some(
            json!({ "linux/amd64": { "apt": [{ "name": "jq", "version": "1" }, { "name": "libjq1", "version": "1" }] } }),
        )
    };
    insta::assert_snapshot!(told(&with(None, None), &with(lock(), lock())), @r#"
    base_image.lock : added {"after":{"kind":"text","text":"locked"}}
    lock : added {"after":{"kind":"text","text":"locked"}}
    "#);
    assert_eq!(told(&with(lock(), lock()), &with(lock(), lock())), "");
}

/// `text` without the digests in it.
fn regexless(text: &str) -> String {
    let mut parts = text.split("\"sha256:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| match part.split_once('"') {
        Some((digest, rest)) if digest.len() == 64 => format!("{text}…{rest}"),
        _ => format!("{text}\"sha256:{part}"),
    })
}

#[test]
fn what_this_program_does_not_know_is_told_all_the_same() {
    let known = plan(json!([{ "kind": "python" }]), json!({}));
    insta::assert_snapshot!(told(&known, &plan(json!([{ "kind": "python", "colour": "blue" }]), json!({}))), @r#"python colour : added {"after":{"kind":"text","text":"\"blue\""}}"#);
    // A step that says nothing but that it is there.
    let empty = plan(json!([{ "kind": "python" }, { "kind": "copy", "files": {} }]), json!({}));
    assert!(told(&known, &empty).starts_with("plan : value "), "{}", told(&known, &empty));
    let mut other = known.carried();
    other["scheme"] = json!(2);
    insta::assert_snapshot!(told(&known, &HashedPlan::from_json(other).unwrap()), @r#"hash scheme : value {"before":{"kind":"text","text":"1"},"after":{"kind":"text","text":"2"}}"#);
}

#[test]
fn what_does_not_count_is_known() {
    let before = Spec { description: some("old".to_owned()), name: some("train".to_owned()), ..Spec::default() };
    let after = Spec { description: some("new".to_owned()), ..before.clone() };
    assert_eq!(uncounted(&before, &after), ["description"]);
    assert_eq!(uncounted(&before, &Spec { packages: texts(&["six"]), ..before.clone() }), [""; 0]);
}

/// Whatever is changed in a plan, one difference at least is told; nothing is told of what is the same.
#[test]
fn every_change_of_a_plan_is_told() {
    let page = include_str!("../../../../docs/hash.md");
    let plans = page.split("```json plan\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let mut count = 0;
    for text in plans {
        let value: Value = serde_json::from_str(text).unwrap();
        let before = HashedPlan::from_json(value.clone()).unwrap();
        assert_eq!(told(&before, &before), "");
        for changed in changed(&value) {
            let Ok(after) = HashedPlan::from_json(changed) else { continue };
            // Secrets do not count.
            if after != before {
                count += 1;
                assert_ne!(told(&before, &after), "", "{before:?}\n{after:?}");
                assert_ne!(before.hash(), after.hash());
            }
        }
    }
    assert!(count > 200, "{count}");
}

/// `value` with each of its texts, numbers and members changed or taken away, one at a time.
fn changed(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let mut without = members.clone();
                without.shift_remove(name);
                all.push(Value::Object(without));
                for other in changed(member) {
                    let mut members = members.clone();
                    members.insert(name.clone(), other);
                    all.push(Value::Object(members));
                }
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                let mut without = items.clone();
                without.remove(position);
                all.push(Value::Array(without));
                for other in changed(item) {
                    let mut items = items.clone();
                    items[position] = other;
                    all.push(Value::Array(items));
                }
            }
        }
        Value::String(text) => all.push(json!(format!("{text}x"))),
        Value::Bool(flag) => all.push(json!(!flag)),
        Value::Number(number) => all.push(json!(number.as_u64().unwrap_or(0) + 1)),
        Value::Null => {}
    }
    all
}

#[test]
fn a_plan_that_is_too_long_to_be_carried_leaves_its_longest_part_out() {
    let files = |count: usize, last: &str| {
        let file = |digest: String| json!({ "kind": "file", "digest": digest, "size_bytes": 1, "executable": false });
        let mut files: serde_json::Map<String, Value> =
            (0..count).map(|number| (format!("data/{number:06}.bin"), file(format!("sha256:{number:064}")))).collect();
        files.insert("last".to_owned(), file(last.to_owned()));
        plan(json!([{ "kind": "copy", "files": files }]), json!({ "env": { "LEVEL": "info" } }))
    };
    let all = files(18_000, "sha256:1");
    let carried = all.carried();
    assert!(carried.to_string().len() < 1000);
    let carried = HashedPlan::from_json(carried).unwrap();
    assert_eq!(carried.hash(), None);
    assert_eq!(told(&carried, &all), "");
    let told = regexless(&told(&carried, &files(18_001, "sha256:2")));
    insta::assert_snapshot!(told, @r#"copy : content {"before":{"kind":"left-out","digest":…,"count":18001},"after":{"kind":"left-out","digest":…,"count":18002}}"#);
    assert_eq!(
        HashedPlan::from_json(files(10_000, "sha256:1").carried()).unwrap().hash(),
        files(10_000, "sha256:1").hash()
    );
}

#[test]
fn what_holds_no_plan_is_refused_and_nothing_hostile_panics() {
    let read = |value: Value| HashedPlan::from_json(value).err();
    for value in [
        json!(null),
        json!([]),
        json!({}),
        json!({ "name": "train" }),
        json!({ "scheme": 1 }),
        json!({ "scheme": "1", "plan": {} }),
    ] {
        assert_eq!(read(value.clone()), Some(NotAPlan::Shape), "{value}");
    }
    for plan in [
        json!({}),
        json!({ "steps": [1], "base": {}, "config": {} }),
        json!({ "steps": [], "base": [], "config": {} }),
        json!({ "steps": [], "base": { "plan": {} }, "config": {} }),
    ] {
        assert_eq!(read(json!({ "scheme": 1, "plan": plan })), Some(NotAPlan::Damaged), "{plan}");
    }
    let odd = json!({ "scheme": 1, "plan": {
        "steps": [{ "kind": "pip", "input": 7, "index": {} }, { "kind": "copy", "files": ["x"] }, { "kind": "run", "commands": { "a": 1 } }, { "kind": "apt", "packages": [1, { "text": [] }] }],
        "base": { "kind": 3 }, "config": { "env": [1], "entrypoint": "sh" }, "lock": [[1], { "name": 1, "version": {} }],
    } });
    let odd = HashedPlan::from_json(odd).unwrap();
    assert!(!told(&plan(json!([]), json!({})), &odd).is_empty());
    assert!(!parts(&odd, &Spec::default()).is_empty());
}

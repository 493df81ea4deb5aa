//! `examples/remote-kubernetes` is of one piece: names, ports, labels, certificates and paths fit together, and the builder
//! reads the addresses. No cluster is needed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use imagespec_builder_remote::endpoint::{Defaults, Endpoint};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/remote-kubernetes")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The documents of a file.
fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All that is applied, by kind and name.
fn applied() -> BTreeMap<(String, String), Value> {
    let kustomization = &documents("kustomization.yaml")[0];
    let files = kustomization["resources"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned());
    let all = files.flat_map(|file| documents(&file)).map(|document| {
        let name =
            |part: &str, value: &Value| value.as_str().unwrap_or_else(|| panic!("{part}: {document}")).to_owned();
        ((name("kind", &document["kind"]), name("name", &document["metadata"]["name"])), document.clone())
    });
    all.collect()
}

fn of<'a>(all: &'a BTreeMap<(String, String), Value>, kind: &str, name: &str) -> &'a Value {
    all.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let items = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("there is no `{name}` in {list}"))
}

#[test]
fn every_manifest_is_applied_or_a_patch() {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let manifests: BTreeSet<String> = files.filter(|name| name.ends_with(".yaml")).collect();
    let kustomization = &documents("kustomization.yaml")[0];
    let mut known: BTreeSet<String> =
        kustomization["resources"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect();
    known.extend(["kustomization.yaml", "privileged.yaml"].map(str::to_owned));
    assert_eq!(manifests, known);

    let all = applied();
    let namespace = &kustomization["namespace"];
    assert_eq!(of(&all, "Namespace", "buildkit")["metadata"]["name"], *namespace);
    for ((kind, name), document) in &all {
        assert!(document["apiVersion"].is_string(), "{kind} {name}");
        assert!(kind == "Namespace" || document["metadata"]["namespace"] == *namespace, "{kind} {name}");
    }
}

#[test]
fn all_that_is_about_the_daemons_finds_them() {
    let all = applied();
    let set = &of(&all, "StatefulSet", "buildkitd")["spec"];
    let labels = &set["template"]["metadata"]["labels"];
    assert!(labels.as_object().is_some_and(|labels| !labels.is_empty()));
    let spread = &set["template"]["spec"]["affinity"]["podAntiAffinity"];
    let spread = &spread["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    for (who, selector) in [
        ("StatefulSet", &set["selector"]["matchLabels"]),
        ("Service", &of(&all, "Service", "buildkitd")["spec"]["selector"]),
        ("PodDisruptionBudget", &of(&all, "PodDisruptionBudget", "buildkitd")["spec"]["selector"]["matchLabels"]),
        ("NetworkPolicy", &of(&all, "NetworkPolicy", "buildkitd")["spec"]["podSelector"]["matchLabels"]),
        ("affinity", &spread["labelSelector"]["matchLabels"]),
    ] {
        assert_eq!(selector, labels, "{who}");
    }

    let service = &of(&all, "Service", "buildkitd")["spec"];
    assert_eq!(service["clusterIP"], "None", "each daemon has a name of its own");
    assert_eq!(set["serviceName"], "buildkitd");
    let daemon = named(&set["template"]["spec"]["containers"], "buildkitd");
    let port = named(&daemon["ports"], "grpc");
    assert_eq!(named(&service["ports"], "grpc")["port"], port["containerPort"]);
    assert_eq!(named(&service["ports"], "grpc")["targetPort"], port["name"]);
    let policy = &of(&all, "NetworkPolicy", "buildkitd")["spec"]["ingress"][0]["ports"][0];
    assert_eq!(policy["port"], port["name"]);
    let address = format!("--addr=tcp://0.0.0.0:{}", port["containerPort"]);
    assert!(daemon["args"].as_array().unwrap().iter().any(|argument| *argument == address), "{}", daemon["args"]);
    // Time for a build from nothing.
    assert!(set["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() >= 600);
}

#[test]
fn paths_of_certificates_settings_and_caches_are_those_that_are_mounted() {
    let all = applied();
    let pod = &of(&all, "StatefulSet", "buildkitd")["spec"]["template"]["spec"];
    let daemon = named(&pod["containers"], "buildkitd");
    let mounted = |name: &str| named(&daemon["volumeMounts"], name)["mountPath"].as_str().unwrap().to_owned();
    let data = &of(&all, "ConfigMap", "buildkitd")["data"];
    assert_eq!(named(&pod["volumes"], "configuration")["configMap"]["name"], "buildkitd");

    let settings: toml::Table = data["buildkitd.toml"].as_str().unwrap().parse().unwrap();
    let tls = settings["grpc"]["tls"].as_table().unwrap();
    // What cert-manager writes into a secret.
    for (key, file) in [("cert", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt")] {
        assert_eq!(tls[key].as_str().unwrap(), format!("{}/{file}", mounted("certificates")));
    }
    assert!(settings["worker"]["oci"]["max-parallelism"].as_integer().unwrap() > 0);

    let arguments = daemon["args"].as_array().unwrap();
    let settings_file = format!("--config={}/buildkitd.toml", mounted("configuration"));
    assert!(arguments.iter().any(|argument| *argument == settings_file));
    let drain = daemon["lifecycle"]["preStop"]["exec"]["command"][1].as_str().unwrap();
    assert_eq!(drain, format!("{}/drain.sh", mounted("configuration")));
    assert!(data["drain.sh"].is_string());

    let claims = of(&all, "StatefulSet", "buildkitd")["spec"]["volumeClaimTemplates"].as_array().unwrap();
    let volumes: BTreeSet<&str> = claims
        .iter()
        .map(|claim| &claim["metadata"]["name"])
        .chain(pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]))
        .map(|name| name.as_str().unwrap())
        .collect();
    for container in
        ["initContainers", "containers"].map(|kind| &pod[kind]).iter().flat_map(|list| list.as_array().unwrap())
    {
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.contains(mount["name"].as_str().unwrap()), "{mount}");
        }
    }
}

#[test]
fn certificates_are_for_the_names_that_the_builder_calls() {
    let all = applied();
    let issuers: BTreeSet<&str> =
        all.keys().filter(|(kind, _)| kind == "Issuer").map(|(_, name)| name.as_str()).collect();
    for ((_, name), certificate) in all.iter().filter(|((kind, _), _)| kind == "Certificate") {
        assert!(issuers.contains(certificate["spec"]["issuerRef"]["name"].as_str().unwrap()), "{name}");
    }
    // One authority signs for both sides, and it is the one that was made by itself.
    let authority = of(&all, "Certificate", "buildkit-authority");
    assert_eq!(authority["spec"]["isCA"], true);
    assert_eq!(of(&all, "Issuer", "buildkit-authority")["spec"]["ca"]["secretName"], authority["spec"]["secretName"]);
    let (server, client) = (of(&all, "Certificate", "buildkitd"), of(&all, "Certificate", "buildkit-client"));
    assert_eq!(server["spec"]["issuerRef"], client["spec"]["issuerRef"]);
    assert_eq!(server["spec"]["usages"][0], "server auth");
    assert_eq!(client["spec"]["usages"][0], "client auth");

    let set = &of(&all, "StatefulSet", "buildkitd")["spec"];
    let volume = named(&set["template"]["spec"]["volumes"], "certificates");
    assert_eq!(volume["secret"]["secretName"], server["spec"]["secretName"]);

    let config: toml::Table = text("config.toml").parse().unwrap();
    let remote = config["builders"]["remote"].as_table().unwrap();
    let file = |name: &str| remote.get(name).map(|file| PathBuf::from(file.as_str().unwrap()));
    let defaults = Defaults { ca: file("ca"), cert: file("cert"), key: file("key"), ..Defaults::default() };
    let read = |text: &str| Endpoint::parse(text, &defaults, Some(Path::new("/home/user"))).unwrap().address;
    let addresses: Vec<String> =
        remote["endpoints"].as_array().unwrap().iter().map(|one| read(one.as_str().unwrap())).collect();
    let port = &named(&of(&all, "Service", "buildkitd")["spec"]["ports"], "grpc")["port"];
    let replicas = set["replicas"].as_u64().unwrap();
    let wanted: Vec<String> =
        (0..replicas).map(|number| format!("tcp://buildkitd-{number}.buildkitd.buildkit.svc:{port}")).collect();
    assert_eq!(addresses, wanted);
    // RFC 6125: a wildcard is one label.
    let names = server["spec"]["dnsNames"].as_array().unwrap();
    assert!(names.iter().any(|name| *name == "*.buildkitd.buildkit.svc"), "{names:?}");
}

#[test]
fn the_patch_is_about_the_same_pod() {
    let all = applied();
    let set = of(&all, "StatefulSet", "buildkitd");
    let patch = &documents("privileged.yaml")[0];
    assert_eq!(patch["kind"], set["kind"]);
    assert_eq!(patch["metadata"]["name"], set["metadata"]["name"]);
    let (pod, patched) = (&set["spec"]["template"]["spec"], &patch["spec"]["template"]["spec"]);
    for kind in ["containers", "initContainers"] {
        for container in patched[kind].as_array().unwrap() {
            let own = named(&pod[kind], container["name"].as_str().unwrap());
            let image = own["image"].as_str().unwrap();
            assert_eq!(container["image"], image.strip_suffix("-rootless").unwrap(), "the same version");
        }
    }
}

#[test]
fn a_pod_is_drained_as_long_as_somebody_is_connected() {
    let all = applied();
    let script = of(&all, "ConfigMap", "buildkitd")["data"]["drain.sh"].as_str().unwrap();
    let set = of(&all, "StatefulSet", "buildkitd");
    let port =
        &named(&named(&set["spec"]["template"]["spec"]["containers"], "buildkitd")["ports"], "grpc")["containerPort"];
    let port = format!(":{:04X} ", port.as_u64().unwrap());
    assert!(script.contains(&port), "{port}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let condition = script.split_once("while ").unwrap().1.split_once("; do").unwrap().0;
    let condition = condition.replace(&port, &format!(":{:04X} ", address.port()));
    let is_busy = || Command::new("sh").args(["-c", &condition]).status().unwrap().success();
    assert!(!is_busy());
    let client = TcpStream::connect(address).unwrap();
    let served = listener.accept().unwrap();
    assert!(is_busy());
    drop((client, served));
    assert!(!is_busy());
}

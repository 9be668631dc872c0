//! Go's text/template, as far as `--format` can see it.
//!
//! It is our own and not the crate gtmpl because that one visits maps in random order, runs `else` of a `range` that
//! was not empty, and overflows the stack on a template that calls itself.

mod api;
mod eval;
mod functions;
mod parse;
mod value;

pub use functions::Mode;
pub use value::{Object, Shape, Value};

/// Bytes that one run may print.
const MAX_OUTPUT: usize = 64 << 20;

/// A template that can be run any number of times.
#[derive(Debug)]
pub struct Template(parse::Tree);

/// Why a template can't be read or run, in Go's words.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// It isn't a template.
    Parse(String),
    /// It doesn't fit the data.
    Execute(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parse(message) | Self::Execute(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    fn parse(text: &str, at: usize, message: impl std::fmt::Display) -> Self {
        Self::Parse(format!("template: :{}: {message}", parse::line_and_column(text, at).0))
    }

    fn execute(place: &parse::Place, template: &str, message: impl std::fmt::Display) -> Self {
        let parse::Place { line, column, source } = place;
        Self::Execute(format!("template: :{line}:{column}: executing {template:?} at <{source}>: {message}"))
    }

    fn limit(message: &str) -> Self {
        Self::Execute(format!("template: {message}"))
    }
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // A template from a command line is short; anything else is a mistake or an attack.
        if text.len() > 1 << 20 {
            return Err(Error::Parse("template: longer than 1 MiB".to_owned()));
        }
        parse::parse(text).map(Self)
    }

    /// The text that it gives for `data`.
    pub fn run(&self, data: &Value, mode: Mode) -> Result<String, Error> {
        eval::run(&self.0, data, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Value {
        let json = r#"{
            "Id": "abc", "Name": "/db", "Big": 9007199254740993, "Ratio": 0.5, "Nothing": null,
            "State": {"Running": true, "Pid": 42, "ExitCode": 0},
            "Config": {"Labels": {"b": "2", "a": "1"}, "Env": ["PATH=/bin", "X=<y>"], "Cmd": null, "Volumes": null}, "HostConfig": {},
            "Mounts": [{"Type": "volume", "Destination": "/data"}, {"Type": "bind", "Destination": "/src"}],
            "NetworkSettings": {"IPAddress": "", "Ports": {}}
        }"#;
        Value::from_json(&serde_json::from_str(json).unwrap())
    }

    fn run(template: &str) -> Result<String, String> {
        let parsed = Template::parse(template).map_err(|error| error.to_string())?;
        parsed.run(&data(), Mode::Row).map_err(|error| error.to_string())
    }

    #[test]
    fn what_docker_users_write() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Name}}", "/db"),
            ("{{ .State.Running }}", "true"),
            ("{{.ID}}", "abc"),
            ("{{.Big}} {{.Ratio}}", "9007199254740993 0.5"),
            ("{{.Nothing}}", "[]"),
            ("{{.HostConfig.Tmpfs}}{{.SizeRw}}", "map[]<nil>"),
            ("{{.Config.Volumes}} {{index .Config.Volumes \"x\"}}{{.Config.Volumes.x}}", "map[] <no value>"),
            ("{{.Config.Labels}}", "map[a:1 b:2]"),
            ("{{.Config.Labels.nope}}", "<no value>"),
            (r#"{{index .Config.Labels "a"}}"#, "1"),
            (r#"[{{index .Config.Labels "nope"}}]"#, "[]"),
            ("{{.Config.Env}}", "[PATH=/bin X=<y>]"),
            (
                "{{json .Config}}",
                r#"{"Labels":{"b":"2","a":"1"},"Env":["PATH=/bin","X=<y>"],"Cmd":null,"Volumes":null}"#,
            ),
            ("{{json .State}}", r#"{"Running":true,"Pid":42,"ExitCode":0}"#),
            ("{{range .Mounts}}{{.Destination}} {{end}}", "/data /src "),
            ("{{range $i, $m := .Mounts}}{{$i}}={{$m.Type}};{{end}}", "0=volume;1=bind;"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
            ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
            ("{{range .Mounts}}x{{else}}none{{end}}", "xx"),
            (r#"{{range .Mounts}}{{if eq .Type "bind"}}{{continue}}{{end}}{{.Type}}{{end}}"#, "volume"),
            ("{{range .Mounts}}{{.Type}}{{break}}{{end}}", "volume"),
            ("{{(index .Mounts 1).Destination}}", "/src"),
            ("{{with index .Mounts 0}}{{.Type}} {{$.Name}}{{end}}", "volume /db"),
            (r#"{{join .Config.Env ","}}"#, "PATH=/bin,X=<y>"),
            (r#"{{(split .Name "/")}} {{index (split .Name "/") 1}}"#, "[ db] db"),
            (
                r#"{{upper .Name}} {{lower "ABC"}} {{title "hello world"}}"#,
                "/DB ABC Hello World".replace("ABC ", "abc ").as_str(),
            ),
            (r#"{{.Name | upper | printf "%6s|%-6s|" "x"}}"#, "     x|/DB   |"),
            (r#"{{pad "x" 2 1}}| {{truncate "abcdef" 3}}"#, "  x | abc"),
            (r#"{{println "a" 1}}"#, "a 1\n"),
            (r#"{{len .Mounts}} {{len "abc"}}"#, "2 3"),
            (
                r#"{{printf "%q %v %d %t %05d %.2f" .Name .Config.Env 7 true 42 0.5}}"#,
                r#""/db" [PATH=/bin X=<y>] 7 true 00042 0.50"#,
            ),
            (r#"{{printf "%d" "x"}} {{printf "%s"}}"#, "%!d(string=x) %!s(MISSING)"),
            (r#"{{if and .State.Running (eq .State.ExitCode 0)}}up{{else}}down{{end}}"#, "up"),
            (r#"{{if .Nothing}}a{{else if .State.Running}}b{{else}}c{{end}}"#, "b"),
            (r#"{{if or .Nothing .NetworkSettings.IPAddress}}a{{else}}b{{end}}"#, "b"),
            (r#"{{not true}} {{ne 1 2}} {{lt 1 2}} {{gt "b" "a"}} {{eq 1 2 1}}"#, "false true true true true"),
            ("a {{- 1 -}} b{{/* c */}}{{- /* d */ -}} e", "a1be"),
            (r#"{{$x := "1"}}{{if true}}{{$x = "2"}}{{end}}{{$x}}"#, "2"),
            (r#"{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}{{block "u" 1}}{{.}}{{end}}"#, "</db>1"),
            (r#"{{"a\tb\u00e9"}}{{`raw\n`}}{{'a'}}"#, "a\tb\u{e9}raw\\n97"),
            ("{{.NetworkSettings.IPAddress}}", ""),
            ("{{json .NetworkSettings.Ports}}", "{}"),
            (r#"{{slice "abcdef" 1 3}}"#, "bc"),
            ("{{range 3}}{{.}}{{end}}", "012"),
        ] {
            assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_the_json_leaves_out_has_its_zero_value() {
        let container = serde_json::json!({
            "Id": "abc",
            "State": {"Running": true},
            "Config": {"Image": "busy"},
            "HostConfig": {"Memory": 0, "NanoCpus": 5, "Mounts": [{"Type": "bind", "BindOptions": {}}]},
            "Mounts": [
                {"Type": "bind", "Source": "/src", "Destination": "/a"},
                {"Type": "tmpfs", "Source": "", "Destination": "/b"},
                {"Type": "volume", "Name": "v", "Source": "/v", "Destination": "/c", "Driver": "local"},
            ],
            "NetworkSettings": {"Networks": {"none": {"GwPriority": 7}, "host": {}}},
        });
        let image = serde_json::json!({"Id": "abc", "RootFS": {"Type": "layers"}, "Config": {}});
        let volume = serde_json::json!({"Name": "v", "Mountpoint": "/v", "Labels": null});
        for (object, template, expected) in [
            (
                &container,
                "{{range .Mounts}}{{.Type}} {{.Name}} {{.Source}} {{.Driver}};{{end}}",
                "bind  /src ;tmpfs   ;volume v /v local;",
            ),
            (&container, "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
            (&container, "{{with .State.Health}}{{.Status}}{{end}}", ""),
            (&container, "{{json .State.Health}} {{.Config.Healthcheck}}", "null <nil>"),
            (&container, "[{{.Config.StopSignal}}] {{.Config.StopTimeout}}", "[] <nil>"),
            (&container, "{{.HostConfig.Init}} {{.HostConfig.PidsLimit}}", "<nil> <nil>"),
            (
                &container,
                "{{with .HostConfig}}{{.MemorySwap}}{{.CpuShares}}{{.CPUShares}}{{.MemoryReservation}}[{{.CpusetCpus}}]{{end}}",
                "0000[]",
            ),
            (&container, "{{.HostConfig.NanoCpus}} {{.HostConfig.NanoCPUs}}", "5 5"),
            (
                &container,
                "{{range .HostConfig.Mounts}}{{.ReadOnly}} {{.BindOptions.NonRecursive}}{{end}}",
                "false false",
            ),
            (&container, "[{{.NetworkSettings.GlobalIPv6Address}}]", "[]"),
            (&container, "{{range .NetworkSettings.Networks}}{{.GwPriority}}{{end}}", "07"),
            (&image, "[{{.Variant}}] {{.RootFS.Layers}} {{.Config.Healthcheck}}", "[] [] <nil>"),
            (&volume, "{{.Status}} {{.UsageData}}", "map[] <nil>"),
        ] {
            let parsed = Template::parse(template).unwrap();
            assert_eq!(parsed.run(&Value::from_json(object), Mode::Row).as_deref(), Ok(expected), "{template}");
        }
        for (object, template) in [
            (&container, "{{.State.Healthy}}"),
            (&container, "{{.Config.Health}}"),
            (&container, "{{range .Mounts}}{{.Target}}{{end}}"),
            (&container, "{{range .HostConfig.Mounts}}{{.Name}}{{end}}"),
            (&container, "{{.Variant}}"),
            (&image, "{{.State}}"),
            (&volume, "{{.SizeRw}}"),
        ] {
            let error = Template::parse(template).unwrap().run(&Value::from_json(object), Mode::Row).unwrap_err();
            assert!(error.to_string().contains("map has no entry for key"), "{template}: {error}");
        }
    }

    #[test]
    fn mistakes_have_gos_words() {
        for (template, expected) in [
            ("{{.Foo}}", r#"template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo""#),
            ("a\n{{.State.Foo}}", r#"template: :2:8: executing "" at <.State.Foo>: map has no entry for key "Foo""#),
            (
                "{{.Name.Foo}}",
                r#"template: :1:7: executing "" at <.Name.Foo>: can't evaluate field Foo in type string"#,
            ),
            (
                "{{.Nothing.Foo}}",
                r#"template: :1:10: executing "" at <.Nothing.Foo>: nil pointer evaluating interface {}.Foo"#,
            ),
            ("{{.Name", "template: :1: unclosed action"),
            ("{{foo}}", r#"template: :1: function "foo" not defined"#),
            ("{{$x}}", r#"template: :1: undefined variable "$x""#),
            ("{{if}}a{{end}}", "template: :1: missing value for if"),
            ("{{}}", "template: :1: missing value for command"),
            ("{{if true}}", "template: :1: unexpected EOF"),
            ("{{end}}", "template: :1: unexpected {{end}}"),
            (r#"{{"a}}"#, "template: :1: unterminated quoted string"),
            (
                "{{index .Mounts 9}}",
                r#"template: :1:2: executing "" at <index .Mounts 9>: error calling index: index out of range: 9"#,
            ),
            (
                r#"{{eq 1 "a"}}"#,
                r#"template: :1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison"#,
            ),
            (r#"{{template "t"}}"#, r#"template: :1:11: executing "" at <{{template "t"}}>: template "t" not defined"#),
            ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ] {
            assert_eq!(run(template), Err(expected.to_owned()), "{template}");
        }
    }

    #[test]
    fn hostile_templates_end_in_one_line() {
        let deep_parens = format!("{{{{{}1{}}}}}", "(".repeat(50_000), ")".repeat(50_000));
        let deep_ifs = format!("{}x{}", "{{if true}}".repeat(50_000), "{{end}}".repeat(50_000));
        let deep_elses = format!("{{{{if false}}}}{}x{{{{end}}}}", "{{else if false}}".repeat(50_000));
        let bomb = (0..64).fold(String::from(r#"{{define "t0"}}xxxxxxxx{{end}}"#), |text, n| {
            let next = n + 1;
            format!(r#"{text}{{{{define "t{next}"}}}}{{{{template "t{n}"}}}}{{{{template "t{n}"}}}}{{{{end}}}}"#)
        }) + r#"{{template "t64"}}"#;
        for template in [
            deep_parens.as_str(),
            &deep_ifs,
            &deep_elses,
            &bomb,
            r#"{{define "a"}}{{template "a"}}{{end}}{{template "a"}}"#,
            r#"{{pad "x" 9000000000 0}}"#,
            "{{range 9000000000}}{{range 9000000000}}x{{end}}{{end}}",
            "{{99999999999999999999999e999999}}",
            "{{'",
            "{{/*",
            "{{\"\\",
            "{{.}",
            "{{$",
            "{{`",
            "{{.A.}}",
            "{{ - }}",
            "{{-}}",
            "{{- -}}",
            "{{|}}",
            "{{(}}",
            "{{)}}",
            "{{define}}{{end}}",
            "{{else}}",
            "{{\u{0}}}",
            "{{\u{e9}}}",
            "{{slice \"\u{e9}\" 2 1}}",
        ] {
            let error = run(template).expect_err(&template.chars().take(40).collect::<String>());
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert!(run(r#"{{printf "%999999999d" 1}}"#).unwrap().len() <= 1_000_000);
    }
}

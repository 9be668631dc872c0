//! The structs of Docker's API, as far as their JSON leaves out what was not set. Docker runs a template on the struct,
//! where such a field has its zero value; we run it on the JSON, so the zero values stand here.
//!
//! Source: the Go types of Docker 28 (api/types/container, image, volume, mount, network).

use super::value::{Nil, Value};

/// What Go has in a field that was never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zero {
    Text,
    Number,
    Bool,
    List,
    Map,
    Pointer,
}

use Zero::{Bool, List, Map, Number, Pointer, Text};

/// Which struct of Docker's an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// None whose fields are known here.
    Other,
    /// A container, as `inspect` shows it.
    Container,
    /// `.State`
    State,
    /// `.Config` of a container.
    Config,
    /// `.Config.Healthcheck`
    Healthcheck,
    /// `.HostConfig`
    HostConfig,
    /// An item of `.HostConfig.Mounts`.
    Mount,
    /// `.BindOptions` of a mount.
    BindOptions,
    /// `.VolumeOptions` of a mount.
    VolumeOptions,
    /// `.TmpfsOptions` of a mount.
    TmpfsOptions,
    /// An item of a container's `.Mounts`.
    MountPoint,
    /// `.NetworkSettings`
    NetworkSettings,
    /// The map `.NetworkSettings.Networks`.
    Networks,
    /// An item of `.NetworkSettings.Networks`.
    Endpoint,
    /// An image, as `inspect` shows it.
    Image,
    /// `.RootFS` of an image.
    RootFs,
    /// A volume, as `inspect` shows it.
    Volume,
}

/// Names that Go's struct has where the JSON has another; a template may use either.
const GO_NAMES: [(&str, &str); 11] = [
    ("CPUShares", "CpuShares"),
    ("NanoCPUs", "NanoCpus"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPURealtimePeriod", "CpuRealtimePeriod"),
    ("CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("CPUCount", "CpuCount"),
    ("CPUPercent", "CpuPercent"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
];

impl Api {
    /// What the output of `inspect` is about.
    pub fn of(object: &serde_json::Map<String, serde_json::Value>) -> Self {
        let has = |name| object.contains_key(name);
        match () {
            () if has("HostConfig") => Self::Container,
            () if has("RootFS") => Self::Image,
            () if has("Mountpoint") => Self::Volume,
            () => Self::Other,
        }
    }

    /// The struct in the field `name`, or of the items of the list in it.
    pub fn below(self, name: &str) -> Self {
        match (self, name) {
            (Self::Container, "State") => Self::State,
            (Self::Container | Self::Image, "Config") => Self::Config,
            (Self::Container, "HostConfig") => Self::HostConfig,
            (Self::Container, "Mounts") => Self::MountPoint,
            (Self::Container, "NetworkSettings") => Self::NetworkSettings,
            (Self::Image, "RootFS") => Self::RootFs,
            (Self::Config, "Healthcheck") => Self::Healthcheck,
            (Self::HostConfig, "Mounts") => Self::Mount,
            (Self::Mount, "BindOptions") => Self::BindOptions,
            (Self::Mount, "VolumeOptions") => Self::VolumeOptions,
            (Self::Mount, "TmpfsOptions") => Self::TmpfsOptions,
            (Self::NetworkSettings, "Networks") => Self::Networks,
            (Self::Networks, _) => Self::Endpoint,
            _ => Self::Other,
        }
    }

    /// The JSON's name for a field that Go's struct calls otherwise.
    pub fn json_name(self, name: &str) -> Option<&'static str> {
        let known = GO_NAMES.iter().find(|(go, _)| self == Self::HostConfig && *go == name);
        known.map(|(_, json)| *json)
    }

    /// What a field gives that the JSON left out; None when the struct has no such field.
    pub fn unset(self, name: &str) -> Option<Value> {
        let zero = self.fields().iter().find(|(_, names)| names.contains(&name)).map(|(zero, _)| zero)?;
        Some(match zero {
            Text => Value::text(""),
            Number => Value::Int(0),
            Bool => Value::Bool(false),
            List => Value::Null(Nil::List),
            Map => Value::Null(Nil::Map),
            Pointer => Value::Null(Nil::Pointer),
        })
    }

    fn fields(self) -> &'static [(Zero, &'static [&'static str])] {
        match self {
            Self::Other | Self::Networks => &[],
            Self::Container => &[(List, &["ExecIDs"]), (Pointer, &["ImageManifestDescriptor", "SizeRootFs", "SizeRw"])],
            Self::State => &[(Pointer, &["Health"])],
            Self::Config => &[
                (Text, &["MacAddress", "StopSignal"]),
                (Bool, &["ArgsEscaped", "NetworkDisabled"]),
                (List, &["Cmd", "Entrypoint", "Env", "OnBuild", "Shell"]),
                (Map, &["ExposedPorts", "Labels", "Volumes"]),
                (Pointer, &["Healthcheck", "StopTimeout"]),
            ],
            Self::Healthcheck => {
                &[(List, &["Test"]), (Number, &["Interval", "Retries", "StartInterval", "StartPeriod", "Timeout"])]
            }
            Self::HostConfig => &[
                (Text, &["CpusetCpus", "CpusetMems"]),
                (
                    Number,
                    &[
                        "BlkioWeight",
                        "CpuCount",
                        "CpuPercent",
                        "CpuPeriod",
                        "CpuQuota",
                        "CpuRealtimePeriod",
                        "CpuRealtimeRuntime",
                        "CpuShares",
                        "IOMaximumBandwidth",
                        "IOMaximumIOps",
                        "KernelMemory",
                        "KernelMemoryTCP",
                        "Memory",
                        "MemoryReservation",
                        "MemorySwap",
                        "NanoCpus",
                    ],
                ),
                (
                    List,
                    &[
                        "BlkioDeviceReadBps",
                        "BlkioDeviceReadIOps",
                        "BlkioDeviceWriteBps",
                        "BlkioDeviceWriteIOps",
                        "BlkioWeightDevice",
                        "DeviceCgroupRules",
                        "DeviceRequests",
                        "Mounts",
                    ],
                ),
                (Map, &["Annotations", "StorageOpt", "Sysctls", "Tmpfs"]),
                (Pointer, &["Init", "MemorySwappiness", "OomKillDisable", "PidsLimit"]),
            ],
            Self::Mount => &[
                (Text, &["Consistency", "Source", "Target", "Type"]),
                (Bool, &["ReadOnly"]),
                (Pointer, &["BindOptions", "ClusterOptions", "ImageOptions", "TmpfsOptions", "VolumeOptions"]),
            ],
            Self::BindOptions => &[
                (Text, &["Propagation"]),
                (Bool, &["CreateMountpoint", "NonRecursive", "ReadOnlyForceRecursive", "ReadOnlyNonRecursive"]),
            ],
            Self::VolumeOptions => {
                &[(Text, &["Subpath"]), (Bool, &["NoCopy"]), (Map, &["Labels"]), (Pointer, &["DriverConfig"])]
            }
            Self::TmpfsOptions => &[(Number, &["Mode", "SizeBytes"]), (List, &["Options"])],
            Self::MountPoint => {
                &[(Text, &["Driver", "Mode", "Name", "Propagation", "Source", "Type"]), (Bool, &["RW"])]
            }
            Self::NetworkSettings => &[
                (Text, &["EndpointID", "GlobalIPv6Address", "IPv6Gateway", "LinkLocalIPv6Address"]),
                (Number, &["GlobalIPv6PrefixLen", "LinkLocalIPv6PrefixLen"]),
                (Bool, &["HairpinMode"]),
                (List, &["SecondaryIPAddresses", "SecondaryIPv6Addresses"]),
            ],
            Self::Endpoint => &[(Number, &["GwPriority"]), (Map, &["DriverOpts"])],
            Self::Image => &[
                (Text, &["Author", "Comment", "Container", "Created", "OsVersion", "Parent", "Variant"]),
                (Number, &["VirtualSize"]),
                (List, &["Manifests"]),
                (Pointer, &["ContainerConfig", "Descriptor"]),
            ],
            Self::RootFs => &[(List, &["Layers"])],
            Self::Volume => &[
                (Text, &["CreatedAt"]),
                (Map, &["Labels", "Options", "Status"]),
                (Pointer, &["ClusterVolume", "UsageData"]),
            ],
        }
    }
}

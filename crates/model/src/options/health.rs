//! Health checks: of an image (`HEALTHCHECK`) and of a container (`--health-*`).

use super::{InvalidOption, invalid};
use serde::{Deserialize, Serialize};

/// Docker's `HealthConfig`, in its JSON. A field that is 0 or empty is inherited from the image's, else the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthCheck {
    /// `["NONE"]`, `["CMD", program, argument …]`, `["CMD-SHELL", line]`, or nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds that a check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds after the start in which a failure doesn't count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between two checks in that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl HealthCheck {
    /// Docker's defaults, in nanoseconds and failures.
    pub const INTERVAL: i64 = 30_000_000_000;
    /// See [`Self::INTERVAL`].
    pub const TIMEOUT: i64 = 30_000_000_000;
    /// See [`Self::INTERVAL`].
    pub const START_INTERVAL: i64 = 5_000_000_000;
    /// See [`Self::INTERVAL`].
    pub const RETRIES: i64 = 3;

    /// `--no-healthcheck`.
    pub fn none() -> Self {
        Self { test: vec!["NONE".to_owned()], ..Self::default() }
    }

    /// Whether there is a command to run.
    pub fn is_active(&self) -> bool {
        self.test.first().is_some_and(|kind| kind != "NONE")
    }

    /// The container's with what it leaves open from the image's.
    #[must_use]
    pub fn over(self, image: Option<Self>) -> Self {
        let Some(image) = image else { return self };
        if !self.test.is_empty() && !self.is_active() {
            return self;
        }
        let or = |own: i64, images: i64| if own == 0 { images } else { own };
        Self {
            test: if self.test.is_empty() { image.test } else { self.test },
            interval: or(self.interval, image.interval),
            timeout: or(self.timeout, image.timeout),
            start_period: or(self.start_period, image.start_period),
            start_interval: or(self.start_interval, image.start_interval),
            retries: or(self.retries, image.retries),
        }
    }

    /// Refuses what Docker refuses.
    pub fn check(&self) -> Result<(), InvalidOption> {
        const MINIMUM: i64 = 1_000_000;
        match self.test.first().map(String::as_str) {
            None | Some("NONE" | "CMD" | "CMD-SHELL" | "") => {}
            Some(kind) => {
                return invalid(format!("Unknown healthcheck type: {kind:?} (expected 'CMD' or 'CMD-SHELL')"));
            }
        }
        for (name, value) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if value != 0 && value < MINIMUM {
                return invalid(format!("{name} in Healthcheck cannot be less than 1ms"));
            }
        }
        if self.retries < 0 { invalid("Retries in Healthcheck cannot be negative") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_fields_win() {
        let image: HealthCheck =
            serde_json::from_str(r#"{"Test":["CMD","a"],"Interval":5000000000,"Retries":7}"#).unwrap();
        let own = HealthCheck { retries: 2, ..HealthCheck::default() };
        let merged = own.over(Some(image.clone()));
        assert_eq!((merged.test.len(), merged.interval, merged.retries), (2, 5_000_000_000, 2));
        assert_eq!(HealthCheck::none().over(Some(image)), HealthCheck::none());
        assert!(!HealthCheck::none().is_active() && merged.is_active());
        assert!(HealthCheck { interval: 1, ..HealthCheck::default() }.check().is_err());
    }
}

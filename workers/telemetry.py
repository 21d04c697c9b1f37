"""What workers count, for Prometheus. Names, states and durations only: never a row of anybody's data."""

from prometheus_client import Counter, Gauge, Histogram

ANALYSES = Counter("northlift_analyses_total", "Analyses that left a worker, by kind and outcome", ["kind", "outcome"])
SECONDS = Histogram(
    "northlift_analysis_seconds",
    "Wall time of an analysis from claim to commit",
    ["kind"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
RUNNING = Gauge("northlift_analyses_running", "Analyses this worker is computing")
RECLAIMED = Counter("northlift_leases_expired_total", "Leases that expired because a worker died", ["outcome"])
RUNG = Counter("northlift_bells_rung_total", "Analyses the reconciler had to ring for again")
WAITING = Gauge("northlift_analyses_waiting", "Queued analyses, as the reconciler last saw them")
MODEL_FITS = Counter("northlift_model_fits_total", "Models fitted, by model and status", ["model", "status"])
COMPILE_SECONDS = Histogram(
    "northlift_model_compile_seconds",
    "Wall time to compile a model and store it; near zero where another worker just did",
    ["model"],
    buckets=(1, 5, 10, 20, 40, 80, 160, 300),
)
MODELS_LOADED = Gauge("northlift_models_loaded", "Compiled programs in the sampling process")
SAMPLER_BYTES = Gauge("northlift_sampler_resident_bytes", "Resident memory of the sampling process after its last fit")

"""The server-rendered pages. `router` is included by `app.main.create_app`."""

from fastapi import APIRouter

from app.pages import (
    api_docs,
    change_page,
    computation_page,
    connection_page,
    data_page,
    experiment_actions,
    experiment_list,
    experiment_page,
    holdout_page,
    home,
    launch_page,
    launch_record,
    lineage_page,
    links_page,
    new_experiment,
    planning_page,
    portfolio_page,
    prior_page,
    programme_page,
    registry,
    review_pages,
    series_pages,
    sign_in,
    static_files,
)

router = APIRouter(include_in_schema=False)
for module in (
    static_files,
    api_docs,
    sign_in,
    home,
    change_page,
    experiment_list,
    new_experiment,
    experiment_actions,
    experiment_page,
    computation_page,
    lineage_page,
    connection_page,
    holdout_page,
    planning_page,
    portfolio_page,
    prior_page,
    programme_page,
    launch_record,
    links_page,
    launch_page,
    series_pages,
    review_pages,
    registry,
    data_page,
):
    router.include_router(module.router)

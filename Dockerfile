# The published games, solved, played and compared with print (`make demo`):
#
#     docker build --tag ttc-env .
#     docker run --rm --volume "$PWD/results:/home/player/results" ttc-env
#
# or a program of your own:
#
#     docker run --rm --volume "$PWD:/home/player/work" ttc-env python work/program.py
FROM python:3.12-slim

# One thread a process; files that a volume receives belong to the user with id 1000.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MPLBACKEND=Agg
RUN useradd --create-home --uid 1000 player
WORKDIR /home/player

COPY pyproject.toml README.md LICENSE ./
COPY ttc_env ttc_env
RUN pip install --no-cache-dir ".[plot]" && rm -r ttc_env pyproject.toml README.md LICENSE
COPY agents agents
COPY baselines baselines
COPY scripts scripts
RUN mkdir results && chown player results

USER player
CMD ["python", "-m", "scripts.reproduce"]

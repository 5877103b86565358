# The demo in a container; docs/scale.md has the commands. TORCH is a backend of uv: cpu, or cu132 and the like for
# NVIDIA GPUs.
FROM python:3.13-slim
ARG TORCH=cpu
RUN pip install --no-cache-dir "uv>=0.9"
WORKDIR /opt/subcam
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN uv pip install --system --no-cache --compile-bytecode --torch-backend "$TORCH" -c constraints.txt .
# The folder that is mounted. What is compiled or downloaded is kept in it too, whoever runs the container.
WORKDIR /work
ENV HOME=/work
ENTRYPOINT ["subcam"]
CMD ["demo"]

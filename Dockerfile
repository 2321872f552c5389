# The page in a container: docker build -t lsn . && docker run -p 7860:7860 -v lsn:/data lsn
# For an NVIDIA GPU: docker build --build-arg TORCH=cu128 -t lsn . && docker run --gpus all ...
FROM python:3.11-slim

# torch and torchvision come from one index: a CPU-only torch beside another index's torchvision fails at import.
ARG TORCH=cpu
WORKDIR /opt/lsn
RUN pip install --no-cache-dir torch==2.14.1 torchvision==0.29.1 --index-url "https://download.pytorch.org/whl/${TORCH}"
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-deps . \
    && useradd --create-home --uid 1000 lsn && mkdir /data && chown lsn /data

USER lsn
ENV LSN_DATA=/data GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
VOLUME /data
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz')"]
STOPSIGNAL SIGTERM
CMD ["lsn", "app"]
